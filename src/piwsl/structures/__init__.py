"""What all rooms share: structures and their labels, units, extended XYZ, streams of random numbers."""
