"""Trains: the Trainer, its loss, and how it resumes.

Read `trainer` first, then `losses` (the loss of a whole optimizer step), `samplers` (the order of
the rows) and `checkpointing` (saving and resuming). The other modules make single parts faster or
safer.

Imports everything above it, but not `metrics`.
"""
