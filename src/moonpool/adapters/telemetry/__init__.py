"""Where spans go. The only place that knows OpenTelemetry's SDK."""
