"""Child processes, threads, tasks, and the server's own processes."""
