"""Training: data, losses, the loop, and one module per stage."""
