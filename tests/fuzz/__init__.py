"""Generated input against running services; `make fuzz` gives it more time."""
