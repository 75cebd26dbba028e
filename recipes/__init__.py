"""Training recipes on transformers.Trainer: a folder with a run.py is a recipe."""

__version__ = "0.2.0"
