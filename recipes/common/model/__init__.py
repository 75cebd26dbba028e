"""Tokenizer and model, from a checkpoint or from scratch.

Read `loading` first: `load_tokenizer` and `load_model` are what a recipe calls. `model_folders`, `weights` and
`adapters` read what a folder holds, `tokenizer_training` trains a new tokenizer, `probes` tries a model on a few
tokens before the training starts.

Imports `runtime`, `config` and `data`.
"""
