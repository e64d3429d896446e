"""Configuration: a YAML file and the environment."""
