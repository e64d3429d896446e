"""Files of tenants, and the web pages."""
