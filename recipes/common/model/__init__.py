"""Builds the tokenizer and the model, from a checkpoint or from scratch.

Read `loading` first: a recipe calls its `load_tokenizer` and `load_model`. `configuring` builds the
model's configuration. `model_folders`, `weights` and `adapters` read what a folder holds.
`tokenizer_training` trains a new tokenizer. `probes` tries a model on a few tokens before the
training starts.

Imports `runtime`, `config` and `data`.
"""
