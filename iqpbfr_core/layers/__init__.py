"""Building blocks, one per file."""
