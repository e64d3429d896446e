"""The API gateway: routes, composed from the services' manifests, each with its chain of filters."""
