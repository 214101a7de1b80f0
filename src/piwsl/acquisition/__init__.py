"""Which geometries to label next: those that a model is least sure of, round by round."""
