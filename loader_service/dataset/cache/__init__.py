"""Prepared samples, kept on the disk from epoch to epoch and from run to run."""
