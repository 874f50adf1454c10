"""Which samples a dataset has, and how often: take, skip, filter, split, balanced, weighted; one file for each idea."""
