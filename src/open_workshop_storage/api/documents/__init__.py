"""What OpenAPI and Swagger say of the routes."""
