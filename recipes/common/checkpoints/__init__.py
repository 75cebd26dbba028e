"""Writes and finds checkpoints on disk: a folder is whole, or it is not there.

Read `atomic_folder` first (how a folder is published), then `retention` (which checkpoints are kept
and which one is the newest). `tensor_files` stores optimizer states without pickle, `progress`
stores one file per rank.

Imports `runtime`. `tokens`, `train` and all packages that follow them may import it.
"""
