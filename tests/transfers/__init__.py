"""From a token to a packed file in its place."""
