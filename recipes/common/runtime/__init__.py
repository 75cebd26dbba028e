"""The process in which everything happens. It knows nothing of recipes, models or data.

Read `errors` first: every refusal and exit code comes from there. Then `processes` (the ranks of a run) and
`signals` (what SIGTERM does). The other modules each solve one problem of the operating system.

Imports nothing from the other packages; all of them may import it.
"""
