"""Turns splits into tokens, and tokens into batches.

Read `encoding` (each row becomes one example) or `packing` (texts are joined to blocks) first: a
recipe calls one of the two. `cache` keeps prepared tokens on disk, `collators` builds the batches.

Imports `runtime`, `config`, `checkpoints`, `data` and `model`.
"""
