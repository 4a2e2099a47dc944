"""The job store, twice: in this process's memory and in Redis."""
