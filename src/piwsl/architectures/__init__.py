"""Architectures: a module or package each, whose name is its key. Keys are read without torch."""
