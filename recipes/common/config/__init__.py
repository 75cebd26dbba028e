"""What may be set: flags, YAML files and what follows from them.

Read `flags` first: it turns the command line into dataclasses. `precedence` decides between flags that contradict
each other, `defaults` fills in what nobody said, `ranges`, `engines` and `services` refuse what cannot work.

Imports `runtime`. Reading it needs no torch.
"""
