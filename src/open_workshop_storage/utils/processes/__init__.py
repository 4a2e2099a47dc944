"""Child processes, threads and tasks, and what is known of the server's processes."""
