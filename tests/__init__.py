"""All tests, and the demo."""
