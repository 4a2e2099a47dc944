"""HTTP and WebSocket only: parse, authorise, call a service, answer."""
