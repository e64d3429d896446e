"""The dead letter queue's stores."""
