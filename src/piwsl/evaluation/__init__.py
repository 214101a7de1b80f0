"""Evaluation: a model and frames in; predictions and errors out."""
