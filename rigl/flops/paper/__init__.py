"""The published tables of sizes and FLOPs beside our counts."""
