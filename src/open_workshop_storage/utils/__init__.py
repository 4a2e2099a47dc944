"""Functions without state of the services, one package for each topic; they import nothing else of this project."""
