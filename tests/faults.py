"""A save in which one file operation fails: the process dies, a write stays half done, the disk is full or broken.

    python tests/faults.py --recipe sentiment

Each operation of the third save (open, write, close, fsync, rename, and the removal of the oldest checkpoint) fails in
a run of its own; then the same command must end as a run that was never disturbed.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import typer
from conftest import ROOT
from forked import Case, Reference, difference, go_on, outcome, start, wait
from killing import conclude

from recipes.common.train.trainer import Trainer

LIBRARY = "LD_PRELOAD"
FAULTS = {"killed": 1, "half written": 2, "disk full": 3, "I/O error": 4}
STEP = 9  # its save removes checkpoint-3: the case keeps two


def armed(output_dir: Path, number: int, fault: str) -> Callable[[], None]:
    """Makes this operation of the save fail; number 0 writes down how many there are."""

    def prepare() -> None:
        library, save = ctypes.CDLL(os.environ[LIBRARY]), Trainer._save_checkpoint

        def disturbed(self: Trainer, *arguments: object) -> None:
            if self.state.global_step == STEP:
                library.arm(str(output_dir).encode(), number, FAULTS[fault])
            try:
                save(self, *arguments)
            finally:
                count = library.disarm()
                if self.state.global_step == STEP and not number:
                    Path(f"{output_dir}.count").write_text(str(count), encoding="utf-8")

        Trainer._save_checkpoint = disturbed

    return prepare


def trial(
    case: Case, folder: Path, name: str, number: int, fault: str, wanted: dict
) -> tuple[str, str]:
    """One run with a fault and the run after it: what was done, and what differs from an undisturbed run."""
    output_dir = folder / name
    code = wait(start(case, folder, output_dir, armed(output_dir, number, fault)))
    what = f"{case.recipe}, operation {number} {fault}, exit {code}"
    if code == 0:  # an operation that nothing depends on
        return what, difference(outcome(output_dir), wanted)
    expected = -9 if FAULTS[fault] < 3 else 74
    said = Path(f"{output_dir}.log").read_text(encoding="utf-8")
    if code != expected or "Traceback" in said:
        return what, f"not exit {expected}: {said[-1500:]}"
    return what, go_on(case, folder, output_dir, wanted)


def operations(case: Case, folder: Path) -> int:
    """How many file operations the save takes."""
    counted = folder / f"counted-{case.recipe}"
    assert wait(start(case, folder, counted, armed(counted, 0, "killed"))) == 0
    return int(Path(f"{counted}.count").read_text(encoding="utf-8"))


def main(recipe: str = "sentiment", every: int = 1, first: int = 1) -> None:
    """Every operation x every fault."""

    def trials(folder: Path) -> Iterator[tuple[str, str]]:
        case = Case(recipe, kept=2)
        wanted, _ = Reference(folder).of(case)
        chosen = [
            (number, fault) for number in range(1, operations(case, folder) + 1) for fault in FAULTS
        ]
        assert len(chosen) > 100
        for number, fault in chosen[first - 1 :: every]:
            yield trial(
                case,
                folder,
                f"{number} {fault}".replace(" ", "-").replace("/", ""),
                number,
                fault,
                wanted,
            )

    with tempfile.TemporaryDirectory() as name:
        conclude(trials(Path(name)))


def preloaded() -> None:
    """Compiles the library and starts this script again with it."""
    with tempfile.TemporaryDirectory() as name:
        library = f"{name}/faults.so"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-o", library, ROOT / "tests/faults.c", "-ldl"], check=True
        )
        ended = subprocess.run(
            [sys.executable, *sys.argv], env=os.environ | {LIBRARY: library}, check=False
        )
    sys.exit(ended.returncode)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    typer.run(main) if "faults.so" in os.environ.get(LIBRARY, "") else preloaded()
