"""Settings, claims and jobs."""
