"""auth: who may ask. Organisations, users and API keys; the gateway asks it once a key and remembers."""
