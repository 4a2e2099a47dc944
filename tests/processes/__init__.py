"""Child processes, threads, tasks and the server."""
