"""Batches out of their rows: what can be done only when all of them are there. One file for each kind of step."""
