"""Mean, spread, range, classes and sizes of all samples: the rules of adding up, what comes out, and its file."""
