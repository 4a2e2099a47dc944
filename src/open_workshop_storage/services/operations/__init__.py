"""Doctor, status, readiness and metrics for operators; connections and the end of a worker."""
