"""Training: the trainer, its metrics and checkpoints."""
