"""Answers new texts with a trained folder.

Read `opening` first: it chooses how a folder answers. `trained_folder` loads what the folder holds;
one module for each way to answer stands beside it.

Imports everything but `report` and `train`.
"""
