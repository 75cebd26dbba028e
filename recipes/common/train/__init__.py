"""Trains: the Trainer, its loss, and how it resumes.

Read `trainer` first; `trained_task` says what it needs to know of a task. Its parts are objects:
`losses` (the loss of a whole optimizer step), `loaders` and `samplers` (the order of the rows),
`checkpointing` (saving and resuming, with `resuming` and `changed_settings`), `evaluation`,
`generation` (texts in an evaluation), `finite_guard`, `stop_signals`, `callbacks` and `plan` (how
many steps).

`fused_lm_loss` (the vocabulary head), `cpu_kernels` and `fsdp` make it fast or possible: a reader
of recipes never meets them.

Imports everything above it, but not `metrics`. `report` and `runner` may import it.
"""
