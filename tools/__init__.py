"""What is done before or after a training run."""
