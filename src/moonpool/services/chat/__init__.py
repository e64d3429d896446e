"""Conversations: messages are stored, answers are streamed and stored also when the client leaves."""
