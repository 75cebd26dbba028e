"""Handles the process that a run takes place in. Knows nothing of recipes, models or data.

Read `errors` first: every refusal and exit code comes from there. `messages` prints what a user
reads, `guard` ends the process with the right code. Then read `processes` (the ranks of a run),
`joining` (how they meet) and `signals` (what SIGTERM does). `upstream` holds all private names of
other libraries.

Each other module solves one problem of the operating system or of a library: `environment` and
`process_state` (what the process finds, and leaves as it was), `streams` (an output that nobody
reads), `disk_errors`, `safe_folders` and `links` (folders), `hashing`, `secrets` (passwords),
`malloc` (memory), `compile_locks` (locks of killed compilers).

Imports no other package. All packages may import it.
"""
