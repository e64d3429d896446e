"""What modules say to each other: frozen structs, and the Protocol of each service's client."""
