"""Log lines and telemetry."""
