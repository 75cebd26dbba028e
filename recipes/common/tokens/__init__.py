"""Turns splits into tokens, and tokens into batches.

Read `encoding` (each row becomes one example) or `packing` (texts are joined to blocks) first: a
recipe calls one of the two. `words` gives labels of words to their tokens. `blocks` holds blocks in
memory. `stream` packs a data set while it is trained on, `positions` says how a training continues
in it. `tokenising` uses all cores, `cache` keeps prepared tokens on disk. `collators` builds the
batches.

Imports `runtime`, `config`, `checkpoints`, `data` and `model`. `train`, `metrics` and all packages
that follow them may import it.
"""
