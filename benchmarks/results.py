"""benchmarks/RESULTS.md: every benchmark writes its own sections, under the command that made them."""

import re
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
TITLE = "# Results\n\nRatios count; times are those of one machine. What was tried is in [LOG.md](LOG.md).\n"


def record(heading: str, body: str, path: Path = RESULTS) -> None:
    """Prints the section of this heading and writes it, in the place of the one before, or at the end."""
    text = path.read_text(encoding="utf-8") if path.exists() else TITLE
    section = f"## {heading}\n\n`{command()}`, commit {_commit()}.\n\n{body.strip()}\n"
    print(section, flush=True)
    sections = [part.rstrip() + "\n" for part in re.split(r"^(?=## )", text, flags=re.MULTILINE)]
    places = [number for number, part in enumerate(sections) if part.startswith(f"## {heading}\n")]
    if places:
        sections[places[0]] = section
    else:
        sections.append(section)
    path.write_text("\n".join(sections), encoding="utf-8")


def command() -> str:
    """The command line that runs, with DIR for every folder of this machine."""
    words = [Path(sys.argv[0]).resolve().relative_to(RESULTS.parents[1]).as_posix(), *sys.argv[1:]]
    words = ["DIR" if Path(word).is_absolute() else word for word in words]
    return " ".join(["python", *(f'"{word}"' if " " in word else word for word in words)])


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, capture_output=True)
    return found.stdout.decode().strip() or "unknown"
