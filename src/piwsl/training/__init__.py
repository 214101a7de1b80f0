"""Training: dataset, split, model and loss in; a trained model and its history out."""
