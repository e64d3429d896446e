"""Fine-tuning jobs, as the OpenAI API has them."""
