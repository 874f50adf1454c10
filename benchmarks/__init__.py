"""One question a file, asked in one run of ours, of our peers and of the bare machine. See harness.py."""
