"""Molecular dynamics with a trained model, and how long it stays a molecule."""
