"""Does what is needed before or after a training run."""
