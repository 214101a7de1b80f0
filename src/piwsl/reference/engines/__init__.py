"""Engines of reference energies: a module an engine, with the one class of `Level` that its levels are."""
