"""Shows the scores of a run, and whether the model is better than the baseline."""

from collections.abc import Sequence
from typing import Any

from recipes.common.config.defaults import lower_is_better
from recipes.common.report.task import Task

TITLES = {"eval": "validation", "predict": "test"}  # the prefix of a metric -> its split

Scores = dict[str, float]


def measured(scores: Scores) -> list[str]:
    """Returns the prefixes of the splits that were evaluated."""
    return [prefix for prefix in TITLES if f"{prefix}_samples" in scores]


def closing(scores: Scores, shown: Sequence[str]) -> str:
    """Returns the closing table: each split's scores with their intervals, and the baseline's below
    them."""
    prefixes = measured(scores)
    names = [name for name in shown if _is_known(scores, prefixes, name)]
    if not names:
        return ""
    rows = [["", "rows", *names]]
    for prefix in prefixes:
        cells = [with_interval(scores, f"{prefix}_{name}") for name in names]
        baselines = [number(scores, f"{prefix}_baseline_{name}") for name in names]
        rows.append([TITLES[prefix], f"{scores[f'{prefix}_samples']:,}", *cells])
        rows.append(["  baseline", "", *baselines])
    return "\n".join(_aligned(rows))


def _is_known(scores: Scores, prefixes: list[str], name: str) -> bool:
    return any(f"{prefix}_{name}" in scores for prefix in prefixes)


def _aligned(rows: list[list[str]]) -> list[str]:
    """Returns the rows as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells))
    return lines


def number(scores: Scores, name: str) -> str:
    """Returns a score with four decimals; nothing where there is none."""
    return f"{scores[name]:.4f}" if name in scores else ""


def with_interval(scores: Scores, name: str) -> str:
    """Returns a score, and behind it the 95 % interval where there is one."""
    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
    if low is None:
        return number(scores, name)
    return f"{number(scores, name)} [{low:.3f}, {high:.3f}]"


def no_better(scores: Scores, prefix: str, task: Task) -> str:
    """Returns a sentence where the model is no better than its baseline; otherwise "".

    The first metric that has a baseline decides.
    """
    for name in (task.headline, *task.shown):
        score = scores.get(f"{prefix}_{name}")
        baseline = scores.get(f"{prefix}_baseline_{name}")
        if score is not None and baseline is not None:
            break
    else:
        return ""
    is_better = score < baseline if lower_is_better(name) else score > baseline
    if is_better:
        return ""
    than = f"no better than the baseline, {baseline:.4f} ({task.baseline})"
    return f"{TITLES[prefix]}: {name} {score:.4f} is {than}"


def size(tokens: dict[str, Any] | None) -> str:
    """Returns what became of a split's text: tokens read, and how many were packed or cut off."""
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
