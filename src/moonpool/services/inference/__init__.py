"""Inference: the OpenAI surface over models that run in this process."""
