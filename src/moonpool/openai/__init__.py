"""The OpenAI and DeepSeek dialect: requests, answers, chunks and errors, as pure data. No I/O."""
