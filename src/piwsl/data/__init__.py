"""From labelled frames to batches: one dataset file, splits by size and seed, neighbour lists."""
