"""Splits -> batches.

Read `encoding` (one row, one example) or `packing` (texts joined to blocks) first; a recipe calls one of them.
`cache` keeps prepared tokens on disk, `collators` build the batches.

Imports `runtime`, `config`, `checkpoints`, `data` and `model`.
"""
