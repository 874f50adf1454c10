"""What two processes agree on, to the byte. The client imports this package, and nothing else of ours."""
