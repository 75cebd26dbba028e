"""Handles the process that a run takes place in. Knows nothing of recipes, models or data.

Read `errors` first: every refusal and exit code comes from there. Then read `processes` (the ranks
of a run) and `signals` (what SIGTERM does). Each other module solves one problem of the operating
system.

Imports nothing from the other packages. All of them may import it.
"""
