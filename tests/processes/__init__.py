"""Child processes, threads and tasks."""
