"""Routes and their documents."""
