"""Writes what a run leaves beside the model: records, predictions, plots, the model card.

Read `run_report` first: it collects the report during the run, and writes it at the end. `task` is
what the report knows of a task. `labelling`, `word_labelling`, `token_prediction` and
`text_generation` make the tasks, with their own plots. `model_card`, `scores_table` and
`learning_curves` are parts of the report; `markdown` shows users' texts in it. `run_record` writes
run.yaml and run.json. `run_identity` decides whether two runs are the same, `folder_claims` whether
a run may use its folder.

Imports everything above it. `runner` and recipes may import it.
"""
