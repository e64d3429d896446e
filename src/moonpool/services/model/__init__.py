"""model: the registry of models. Which aliases there are, and the targets that answer for each."""
