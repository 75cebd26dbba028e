"""Refuses numbers outside the range of their flag.

Such a number would end in a library's error, or in no error at all.
"""

import math
from collections.abc import Mapping
from typing import Any

from recipes.common.config.facts import INTERVAL, Facts, Range
from recipes.common.runtime.errors import Refusal

IN_WORDS: dict[Range, str] = {INTERVAL: "a number of steps, or below 1 a share of all steps"}


def check(values: Mapping[str, Any], facts: Mapping[str, Facts]) -> None:
    """Refuses numbers that are not finite or not in the range of their flag."""
    for name, value in values.items():
        known = facts[name]
        if known.range is not None and value != known.unset:
            _check_range(name, value, known.range)
        elif isinstance(value, float) and not math.isfinite(value):
            raise Refusal(f"--{name} is {value}", f"--{name}", "give a finite number")


def _check_range(name: str, value: float, range: Range) -> None:
    least, most = range
    if least <= value <= most:
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise Refusal(f"--{name} is {value}", f"--{name}", "give a finite number")
    fix = IN_WORDS.get(range, f"a number from {_shown(least)} to {_shown(most)}")
    raise Refusal(f"--{name} is {_shown(value)}", f"--{name}", f"give {fix}")


def _shown(number: float) -> str:
    if isinstance(number, int):
        return str(number)
    return f"{number:.12g}"
