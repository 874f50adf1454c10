"""What a dataset's author reads: sources, transforms, order, and how they become rows. No sockets, no processes."""
