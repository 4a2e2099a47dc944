"""One job store in the memory of this process, and one in Redis."""
