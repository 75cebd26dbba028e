"""Answers new texts with a trained folder.

Read `opening` first: it chooses how a folder answers. `trained_folder` loads what the folder holds.
One module for each way to answer stands beside it: `labelling`, `word_labelling`, `mask_filling`,
`writing`, `continuing`. `answer_file` writes the answers.

Imports everything but `report` and `train`. The command line and recipes may import it.
"""
