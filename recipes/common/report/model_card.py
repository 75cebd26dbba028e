"""The report a person reads: learning curves, the table of scores and the model card."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from recipes.common.config.defaults import LOWER_IS_BETTER
from recipes.common.report import markdown
from recipes.common.report.task_report import Task

TITLES = {"eval": "validation", "predict": "test"}
MOST_CURVES = 4  # metrics of one's own that are drawn


def draw(folder: Path, history: list[dict], rows: list[dict], task: Task) -> list[Path]:
    """The plots that there is data for: learning_curves.png, and the task's own."""
    import matplotlib

    matplotlib.use("Agg")
    _use_installed_fonts()
    folder.mkdir(exist_ok=True)
    plots = [
        _learning_curves(folder / "learning_curves.png", history, task),
        *task.plot(folder, rows),
    ]
    return [path for path in plots if path]


def _learning_curves(path: Path, history: list[dict], task: Task) -> Path | None:
    """The losses on one axis and the headline metric on another; each metric of one's own below them."""
    from matplotlib import pyplot

    train = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    if not train:
        return None
    evaluated, scored = _evaluations(history, "loss"), _evaluations(history, task.headline)
    keys = [name for entry in history for name in entry if isinstance(entry[name], int | float)]
    others = [name for name in task.others(dict.fromkeys(keys), ["eval"]) if name != task.headline][
        :MOST_CURVES
    ]
    size, ratios = (7, 4 + 2 * len(others)), [2, *(1 for _ in others)]
    figure, panels = pyplot.subplots(
        len(ratios),
        figsize=size,
        height_ratios=ratios,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    left, *below = panels[:, 0]
    left.plot(*zip(*train, strict=True), color="tab:gray", label="training loss")
    if evaluated:
        left.plot(
            *zip(*evaluated, strict=True), color="tab:orange", marker="o", label="validation loss"
        )
    left.set(ylabel="loss (nats)")
    left.grid(alpha=0.3)
    lines = left.get_lines()
    if scored:
        right = left.twinx()
        right.plot(
            *zip(*scored, strict=True),
            color="tab:blue",
            marker="s",
            label=f"validation {task.headline}",
        )
        right.set_ylabel(task.headline)
        lines = [*lines, *right.get_lines()]
    for axes, name in zip(below, others, strict=True):
        axes.plot(*zip(*_evaluations(history, name), strict=True), color="tab:green", marker="s")
        axes.set(ylabel=name)
        axes.grid(alpha=0.3)
    panels[-1, 0].set(xlabel="step")
    figure.legend(
        lines, [line.get_label() for line in lines], loc="outside upper center", ncols=len(lines)
    )
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def _evaluations(history: list[dict], name: str) -> list[tuple[int, float]]:
    """Pairs of step and value of a metric, of the evaluations in the training."""
    return [(entry["step"], entry[f"eval_{name}"]) for entry in history if f"eval_{name}" in entry]


def _use_installed_fonts() -> None:
    """matplotlib's own font has no Chinese: labels in it are drawn with the first font of the machine that has."""
    from matplotlib import font_manager, rcParams

    installed = {font.name for font in font_manager.fontManager.ttflist}
    wanted = ("Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", "WenQuanYi Zen Hei", "SimHei")
    rcParams["font.family"] = ["DejaVu Sans", *(family for family in wanted if family in installed)]


def score_table(scores: dict[str, float], shown: Sequence[str]) -> str:
    """The closing table: for each evaluated split its scores with their intervals, and the baseline's below them."""
    present = [prefix for prefix in TITLES if f"{prefix}_samples" in scores]
    names = [name for name in shown if any(f"{prefix}_{name}" in scores for prefix in present)]
    if not names:
        return ""
    rows = [["", "rows", *names]]
    for prefix in present:
        cells = [
            _number(scores, f"{prefix}_{name}") + _interval(scores, f"{prefix}_{name}")
            for name in names
        ]
        rows.append([TITLES[prefix], f"{scores[f'{prefix}_samples']:,}", *cells])
        rows.append(
            ["  baseline", "", *(_number(scores, f"{prefix}_baseline_{name}") for name in names)]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def _number(scores: dict[str, float], name: str) -> str:
    return f"{scores[name]:.4f}" if name in scores else ""


def _interval(scores: dict[str, float], name: str) -> str:
    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
    return f" [{low:.3f}, {high:.3f}]" if low is not None else ""


def write(
    facts: dict[str, Any],
    flags: dict[str, Any],
    scores: dict[str, float],
    task: Task,
    examples: str,
    plots: list[Path],
) -> str:
    """The model card in Markdown, with the Hub's header: data, settings, scores, errors, limits, how to repeat it."""
    title = Path(flags["output_dir"]).name
    sections = [
        _header(flags, scores, task),
        f"# {markdown.text(title)}\n",
        _model_section(facts, flags, task),
        "## Scores\n\n" + _score_section(scores, task),
        *(f"![{plot.stem.replace('_', ' ')}](plots/{plot.name})\n" for plot in plots),
        "## Data\n\n" + _data_section(facts, flags),
        examples,
        "## Settings\n\n" + _settings_section(flags, facts.get("own_flags", ())),
        "## Limits\n\n" + _limits(facts),
        "## Repeat it\n\n" + _repeat_section(facts, flags),
    ]
    return "\n".join(section for section in sections if section)


def _header(flags: dict[str, Any], scores: dict[str, float], task: Task) -> str:
    header: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": task.tag}
    if flags.get("model_name_or_path") and not Path(flags["model_name_or_path"]).exists():
        header["base_model"] = flags["model_name_or_path"]
    if flags.get("dataset_name"):
        header["datasets"] = [flags["dataset_name"]]
    names = (*task.shown, *task.others(scores, TITLES))
    header["metrics"] = sorted(
        {name for name in names for prefix in TITLES if f"{prefix}_{name}" in scores}
    )
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n"


def _model_section(facts: dict[str, Any], flags: dict[str, Any], task: Task) -> str:
    origin = flags.get("model_name_or_path")
    source = f"a {markdown.code(flags.get('model_type'))} trained from scratch"
    source = f"trained further from {markdown.code(origin)}" if origin else source
    source = source if flags.get("do_train") else f"{markdown.code(origin)} as it is"
    number = f"{facts['parameters']['all']:,} parameters"
    use = task.adapted if facts.get("adapters") and task.adapted else task.use
    folder = str(flags["output_dir"] if flags.get("do_train") else origin)
    use = use.replace("{folder}", folder.replace("\\", "\\\\").replace('"', '\\"'))
    return f"{task.what}: {source}, {number}. {task.answers}\n\n{markdown.block(use, 'python')}\n"


def no_better(scores: dict[str, float], prefix: str, task: Task) -> str:
    """What a model is no better than, in a sentence; "" where its first metric with a baseline is better than that."""
    names = (name for name in (task.headline, *task.shown) if f"{prefix}_baseline_{name}" in scores)
    name = next((name for name in names if f"{prefix}_{name}" in scores), None)
    if name is None:
        return ""
    score, baseline = scores[f"{prefix}_{name}"], scores[f"{prefix}_baseline_{name}"]
    if score < baseline if name in LOWER_IS_BETTER else score > baseline:
        return ""
    return f"{TITLES[prefix]}: {name} {score:.4f} is no better than the baseline, {baseline:.4f} ({task.baseline})"


def _score_section(scores: dict[str, float], task: Task) -> str:
    present = [prefix for prefix in TITLES if f"{prefix}_samples" in scores]
    names = list(
        dict.fromkeys(key.split("_", 1)[1] for key in scores if key.split("_", 1)[0] in present)
    )
    bounds = {f"{name}_{bound}" for name in names for bound in ("low", "high")}
    unshown = bounds | {
        "runtime",
        "samples_per_second",
        "steps_per_second",
        "model_preparation_time",
    }
    shown = [name for name in names if name not in unshown and not name.startswith("baseline_")]
    lines = [
        f"| | {' | '.join(TITLES[prefix] for prefix in present)} |",
        "|---|" + "---|" * len(present),
    ]
    lines += [
        f"| {markdown.text(name)} | {' | '.join(_cell(scores, prefix, name) for prefix in present)} |"
        for name in shown
    ]
    verdicts = [
        f"Warning: {markdown.text(said)}."
        for prefix in present
        if (said := no_better(scores, prefix, task))
    ]
    return "\n\n".join([*verdicts, "\n".join(lines), "In brackets the 95 % bootstrap interval.\n"])


def _cell(scores: dict[str, float], prefix: str, name: str) -> str:
    key, baseline = f"{prefix}_{name}", f"{prefix}_baseline_{name}"
    if key not in scores:
        return "–"
    text = (
        f"{scores[key]:,}"
        if isinstance(scores[key], int)
        else _number(scores, key) + _interval(scores, key)
    )
    return f"{text} (baseline {_number(scores, baseline)})" if baseline in scores else text


def size(tokens: dict[str, Any] | None) -> str:
    """What became of a split's text: tokens read, and how many were packed or cut off."""
    if not tokens:
        return "streamed"
    parts = [f"{tokens['tokens']:,} tokens"]
    if "packed" in tokens:
        parts.append(f"{tokens['packed']:,} packed in {tokens['blocks']:,} blocks")
    if "used" in tokens:
        parts.append(f"the first {tokens['used']:,} used")
    if "truncated_share" in tokens:
        parts.append(f"{tokens['truncated_share']:.1%} truncated")
    return ", ".join(parts)


def _data_section(facts: dict[str, Any], flags: dict[str, Any]) -> str:
    lines = ["| split | read | used | skipped | tokens |", "|---|---|---|---|---|"]
    for name, count in facts["rows"].items():
        skipped = (
            ", ".join(f"{number} {reason}" for reason, number in count["skipped"].items()) or "none"
        )
        lines.append(
            f"| {name} | {count['read']:,} | {count['used']:,} | {skipped} | {size(facts['tokens'].get(name))} |"
        )
    if flags.get("dataset_name"):
        name, configuration = flags["dataset_name"], flags.get("dataset_config_name") or ""
        lines.append(f"\nFrom {markdown.code(name)} {markdown.text(configuration)}")
    lines += [
        f"\n{markdown.code(path)} (SHA-256 {digest[:16]}…)"
        for path, digest in facts["data_sha256"].items()
    ]
    return "\n".join(lines) + "\n"


def _settings_section(flags: dict[str, Any], own: Sequence[str]) -> str:
    shown = ("model_type", "config_overrides", "tokenizer_algorithm", "do_lower_case")
    shown += ("vocab_size", "max_seq_length", "lora_rank")
    shown += (
        "learning_rate",
        "lr_scheduler_type",
        "warmup_steps",
        "weight_decay",
        "optim",
        "num_train_epochs",
    )
    shown += (
        "max_steps",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "label_smoothing_factor",
    )
    shown += (
        "block_size",
        "mlm_probability",
        "whole_word_mask",
        "packing_isolation",
        "source_lang",
        "target_lang",
    )
    shown += (
        "max_source_length",
        "max_target_length",
        "num_beams",
        "source_prefix",
        "class_weights",
        "early_stopping_patience",
        "bf16",
        "fp16",
        "seed",
    )
    known = {
        name: flags[name] for name in shown if flags.get(name) not in (None, 0, 0.0, -1, False)
    }
    known |= {name: flags[name] for name in own if flags.get(name) not in (None, False, "")}
    lines = [f"- {name}: {markdown.text(value)}" for name, value in known.items()]
    return "\n".join(lines) + "\n\nAll of them: run.yaml.\n"


def _limits(facts: dict[str, Any]) -> str:
    languages = "It knows the words and the kind of text of its training data; elsewhere its scores do not hold."
    bias = "It repeats whatever bias that data has: look at its errors before its answers decide anything for a person."
    small = facts["rows"].get("train", {}).get("used", 0)
    few = f" It saw {small:,} training rows." if small else ""
    return f"{languages}{few} {bias}\n"


def _repeat_section(facts: dict[str, Any], flags: dict[str, Any]) -> str:
    script = next(
        (word for word in shlex.split(facts["command"]) if word.endswith("run.py")), "run.py"
    )
    start = (
        ["torchrun", "--nproc_per_node", str(facts["world_size"])]
        if facts["world_size"] > 1
        else ["python"]
    )
    folder = flags["output_dir"].rstrip("/")
    command = shlex.join(
        [*start, script, "--config", f"{folder}/run.yaml", "--output_dir", f"{folder}_again"]
    )
    began = f"First run as {markdown.code(facts['command'])} in {facts['seconds']:,.0f} s on {facts['hardware']}"
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"{markdown.block(command, 'bash')}\n\n{began}, git {facts['git_commit'] or 'unknown'}, {versions}.\n"
