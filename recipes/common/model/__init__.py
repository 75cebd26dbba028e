"""Builds the tokenizer and the model, from a checkpoint or from scratch.

Read `loading` first: a recipe calls its `load_tokenizer` and `load_model`. `configuring` builds the
model's configuration, with `config_overrides`. `model_folders`, `weights` and `adapters` read what
a folder holds. `tokenizer_loading` loads its tokenizer, `tokenizer_training` trains a new one,
`special_tokens` finds the tokens that start and end a text. `languages` sets the languages of a
model that translates. `probes` tries a model on a few tokens before the training starts, and
`trial` refuses a model that fails. `fast_layers` replaces slow layers.

Imports `runtime`, `config` and `data`. `tokens` and all packages that follow it may import it.
"""
