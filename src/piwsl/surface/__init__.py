"""What chemists ask a potential energy surface for: minima, vibrations and scans, of a model or a level of theory."""
