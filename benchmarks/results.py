"""Writes benchmarks/RESULTS.md.

Every benchmark writes its own sections for a machine, with the command that made them.
"""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import torch

from recipes.common.config.defaults import has_bf16

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
TITLE = "# Results\n\nRatios count; times are those of the machine in the heading."
TITLE += " What was tried is in [LOG.md](LOG.md).\n"


def record(heading: str, body: str, path: Path = RESULTS) -> None:
    """Prints the section of this heading and machine, and writes it.

    It replaces the earlier one of the same heading and machine, or comes at the end.
    """
    heading = f"{heading} ({machine()})"
    text = path.read_text(encoding="utf-8") if path.exists() else TITLE
    section = f"## {heading}\n\n`{command()}`, commit {commit()}.\n\n{body.strip()}\n"
    print(section, flush=True)
    sections = [part.rstrip() + "\n" for part in re.split(r"^(?=## )", text, flags=re.MULTILINE)]
    places = [number for number, part in enumerate(sections) if part.startswith(f"## {heading}\n")]
    if places:
        sections[places[0]] = section
    else:
        sections.append(section)
    path.write_text("\n".join(sections), encoding="utf-8")


def machine() -> str:
    """Returns the device that computes, and its precision: "AMD EPYC, 2 cores, fp32"."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {'bf16' if has_bf16(use_cpu=False) else 'fp32'}"
    said = Path("/proc/cpuinfo")
    named = re.search(
        r"^model name\s*:\s*(.+)$", said.read_text() if said.exists() else "", flags=re.MULTILINE
    )
    processor = named[1] if named else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {'bf16' if has_bf16(use_cpu=True) else 'fp32'}"


def command() -> str:
    """Returns the command line that runs, with DIR for every folder of this machine."""
    words = [Path(sys.argv[0]).resolve().relative_to(RESULTS.parents[1]).as_posix(), *sys.argv[1:]]
    words = ["DIR" if Path(word).is_absolute() else word for word in words]
    return " ".join(["python", *(f'"{word}"' if " " in word else word for word in words)])


def commit() -> str:
    """Returns the measured commit, "-dirty" where files other than the results differ from it."""
    found, changed = (
        subprocess.run(
            ["git", *words], cwd=RESULTS.parent, capture_output=True, text=True
        ).stdout.strip()
        for words in (
            ["rev-parse", "--short", "HEAD"],
            [
                "status",
                "--porcelain",
                "--untracked-files=no",
                "--",
                ":/",
                f":(exclude){RESULTS.name}",
            ],
        )
    )
    return f"{found}-dirty" if changed else found or "unknown"
