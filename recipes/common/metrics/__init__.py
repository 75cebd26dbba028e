"""Scores what a model predicts.

One module per kind of task: `classification`, `entities`, `language_modeling`, `generated_text`.
`sklearn_metrics` gives scikit-learn's functions the interface of `evaluate`.

Imports `runtime`, `data` and `tokens`, but not `train`. `report`, `predict` and recipes may import
it.
"""
