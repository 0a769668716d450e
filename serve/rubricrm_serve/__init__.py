"""`rubricrm serve`: a model behind HTTP."""
