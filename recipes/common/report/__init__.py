"""What a run leaves beside the model: records, predictions, plots, the model card.

Read `run_report` first. `run_record` writes run.yaml and run.json, `folder_claims` decides whether a run may use its
folder, `task_report` holds what each kind of task shows.

Imports everything above it.
"""
