"""Archives: inspect, test, extract and pack."""
