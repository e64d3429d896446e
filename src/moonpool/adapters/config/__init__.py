"""Configuration: from a YAML file and the environment, or from the config server."""
