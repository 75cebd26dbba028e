"""Writes the model card, which is README.md of the output folder.

It holds data, settings, scores, errors, limits, and how to repeat the run.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from recipes.common.report import markdown, scores_table
from recipes.common.report.scores_table import TITLES, Scores
from recipes.common.report.task import ADDED_BY_TRAINER, Task

# The settings that the card shows, in this order, where they are set; those of the recipe follow.
SETTINGS = (
    "model_type",
    "config_overrides",
    "tokenizer_algorithm",
    "do_lower_case",
    "vocab_size",
    "lora_rank",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "optim",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "label_smoothing_factor",
    "early_stopping_patience",
    "bf16",
    "fp16",
    "seed",
)
UNSET = (None, 0, 0.0, -1, False)
LIMITS = (
    "It knows the words and the kind of text of its training data; "
    "elsewhere its scores do not hold."
)
BIAS = (
    "It repeats whatever bias that data has: look at its errors before its answers decide anything "
    "for a person."
)


Facts = dict[str, Any]  # of run.json
Flags = dict[str, Any]  # of run.yaml


def write(
    facts: Facts, flags: Flags, scores: Scores, task: Task, examples: str, plots: list[Path]
) -> str:
    """Returns the model card in Markdown, with the Hub's header."""
    title = Path(flags["output_dir"]).name
    images = [f"![{plot.stem.replace('_', ' ')}](plots/{plot.name})\n" for plot in plots]
    sections = [
        _header(flags, scores, task),
        f"# {markdown.text(title)}\n",
        _model_section(facts, flags, task),
        "## Scores\n\n" + _score_section(scores, task),
        *images,
        "## Data\n\n" + _data_section(facts, flags),
        examples,
        "## Settings\n\n" + _settings_section(flags, facts.get("own_flags", ())),
        "## Limits\n\n" + _limits(facts),
        "## Repeat it\n\n" + _repeat_section(facts, flags),
    ]
    return "\n".join(section for section in sections if section)


def _header(flags: Flags, scores: Scores, task: Task) -> str:
    """Returns the YAML that the Hub reads."""
    header: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": task.tag}
    checkpoint = flags.get("model_name_or_path")
    if checkpoint and not Path(checkpoint).exists():
        header["base_model"] = checkpoint
    if flags.get("dataset_name"):
        header["datasets"] = [flags["dataset_name"]]
    header["metrics"] = sorted(_measured_names(scores, task))
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n"


def _measured_names(scores: Scores, task: Task) -> set[str]:
    found = set()
    for name in (*task.shown, *task.others(scores, TITLES)):
        if any(f"{prefix}_{name}" in scores for prefix in TITLES):
            found.add(name)
    return found


def _model_section(facts: Facts, flags: Flags, task: Task) -> str:
    """Returns what the model is, where it comes from, and Python that uses it."""
    trained, checkpoint = flags.get("do_train"), flags.get("model_name_or_path")
    named = markdown.code(checkpoint)
    if not trained:
        source = f"{named} as it is"
    elif checkpoint:
        source = f"trained further from {named}"
    else:
        source = f"a {markdown.code(flags.get('model_type'))} trained from scratch"
    number = f"{facts['parameters']['all']:,} parameters"
    use = task.use
    if facts.get("adapters") and task.adapted:
        use = task.adapted
    folder = str(flags["output_dir"] if trained else checkpoint)
    use = use.replace("{folder}", folder.replace("\\", "\\\\").replace('"', '\\"'))
    code = markdown.block(use, "python")
    return f"{task.what}: {source}, {number}. {task.answers}\n\n{code}\n"


def _score_section(scores: Scores, task: Task) -> str:
    """Returns a warning where nothing was learned, and a table of all scores."""
    prefixes = scores_table.measured(scores)
    titles = [TITLES[prefix] for prefix in prefixes]
    lines = [f"| | {' | '.join(titles)} |", "|---|" + "---|" * len(prefixes)]
    for name in _scored(scores, prefixes):
        cells = [_cell(scores, prefix, name) for prefix in prefixes]
        lines.append(f"| {markdown.text(name)} | {' | '.join(cells)} |")
    verdicts = []
    for prefix in prefixes:
        if said := scores_table.no_better(scores, prefix, task):
            verdicts.append(f"Warning: {markdown.text(said)}.")
    table = "\n".join(lines)
    return "\n\n".join([*verdicts, table, "In brackets the 95 % bootstrap interval.\n"])


def _scored(scores: Scores, prefixes: list[str]) -> list[str]:
    """Returns the names of all scores but bounds, baselines and what Trainer measures of its own
    speed."""
    names: dict[str, None] = {}
    for key in scores:
        prefix, _, name = key.partition("_")
        if prefix in prefixes:
            names[name] = None
    unshown = ADDED_BY_TRAINER - {"loss", "samples"}
    for name in names:
        unshown |= {f"{name}_low", f"{name}_high"}
    return [name for name in names if name not in unshown and not name.startswith("baseline_")]


def _cell(scores: Scores, prefix: str, name: str) -> str:
    key, baseline = f"{prefix}_{name}", f"{prefix}_baseline_{name}"
    if key not in scores:
        return "–"
    text = scores_table.with_interval(scores, key)
    if isinstance(scores[key], int):
        text = f"{scores[key]:,}"
    if baseline in scores:
        text += f" (baseline {scores_table.number(scores, baseline)})"
    return text


def _data_section(facts: Facts, flags: Flags) -> str:
    """Returns a table of the rows of each split, and where they come from."""
    lines = ["| split | read | used | skipped | tokens |", "|---|---|---|---|---|"]
    for name, count in facts["rows"].items():
        reasons = [f"{number} {reason}" for reason, number in count["skipped"].items()]
        cells = [f"{count['read']:,}", f"{count['used']:,}", ", ".join(reasons) or "none"]
        cells.append(scores_table.size(facts["tokens"].get(name)))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if name := flags.get("dataset_name"):
        configuration = flags.get("dataset_config_name") or ""
        lines.append(f"\nFrom {markdown.code(name)} {markdown.text(configuration)}")
    for path, digest in facts["data_sha256"].items():
        lines.append(f"\n{markdown.code(path)} (SHA-256 {digest[:16]}…)")
    return "\n".join(lines) + "\n"


def _settings_section(flags: Flags, own: Sequence[str]) -> str:
    """Returns a list of the settings that matter most, and of the recipe's own flags."""
    known = {name: flags[name] for name in SETTINGS if flags.get(name) not in UNSET}
    known |= {name: flags[name] for name in own if flags.get(name) not in (None, "")}
    lines = [f"- {name}: {markdown.text(value)}" for name, value in known.items()]
    return "\n".join(lines) + "\n\nAll of them: run.yaml.\n"


def _limits(facts: Facts) -> str:
    """Returns what the model is not good for."""
    rows = facts["rows"].get("train", {}).get("used", 0)
    few = f"It saw {rows:,} training rows." if rows else ""
    return " ".join(sentence for sentence in (LIMITS, few, BIAS) if sentence) + "\n"


def _repeat_section(facts: Facts, flags: Flags) -> str:
    """Returns the command that repeats the run, and what the run was."""
    words = shlex.split(facts["command"])
    script = next((word for word in words if word.endswith("run.py")), "run.py")
    start = ["python"]
    if facts["world_size"] > 1:
        start = ["torchrun", "--nproc_per_node", str(facts["world_size"])]
    folder = flags["output_dir"].rstrip("/")
    settings = ["--config", f"{folder}/run.yaml", "--output_dir", f"{folder}_again"]
    command = shlex.join([*start, script, *settings])
    took = f"in {facts['seconds']:,.0f} s on {facts['hardware']}"
    versions = [f"{name} {version}" for name, version in facts["versions"].items()]
    made = ", ".join([f"git {facts['git_commit'] or 'unknown'}", *versions])
    first = f"First run as {markdown.code(facts['command'])} {took}, {made}."
    return f"{markdown.block(command, 'bash')}\n\n{first}\n"
