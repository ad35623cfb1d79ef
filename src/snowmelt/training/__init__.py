"""Training: the loop, its checkpoints, the moving average, validation. ``options`` alone imports no torch."""
