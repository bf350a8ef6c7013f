"""Training examples: arrays in memory, streams from files, shuffled order."""
