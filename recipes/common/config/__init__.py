"""Reads what may be set: flags, YAML files, and the values that follow from them.

Read `flags` first: it holds the flags as dataclasses. `facts` holds what is known about a flag: its
range, what it needs. `parsing` fills the flags from the command line and from `yaml_files`.
`precedence` decides between flags that contradict each other. `defaults` fills in what nobody set.
Three modules refuse what cannot work: `ranges` numbers, `engines` what DeepSpeed, FSDP and
torch.compile cannot do, `services` packages, optimizers and schedules with their settings, and the
Hub. `step_sizes` computes the rows of a step. `training_settings` changes TrainingArguments later,
where a run finds out more.

Imports `runtime`. All modules but `services` can be imported without torch. `data`, all packages
that follow it, and the command line may import it.
"""
