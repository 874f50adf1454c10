"""A look at samples, as they are and as the model gets them: which, what of them, and how it is drawn."""
