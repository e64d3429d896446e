"""The config server: a module of its own that keeps the platform's documents, every version of them, and
tells everybody of every change at once. It decides nothing: what a document means is for its readers."""
