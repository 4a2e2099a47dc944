"""What is done: receive, fetch, inspect, repack, normalise, call back, move, clean up."""
