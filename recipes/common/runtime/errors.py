"""Defines how a run ends early: a message of three lines (what, where, fix) and an exit code."""

from recipes.common.runtime.messages import visible

COMPLETE = 0
FAILED = 1
REFUSED = 2
INTERNAL = 70
DISK = 74
INTERRUPTED = 130


class Stop(Exception):
    """Ends a run with a message of at most three lines and an exit code, without a traceback."""

    exit_code = FAILED

    def __init__(self, what: str, where: str = "", fix: str = ""):
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        lines = [f"error: {self.what}"]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(map(visible, lines))


class Refusal(Stop):
    """Refuses input, a configuration or a checkpoint that this run cannot use (exit code 2)."""

    exit_code = REFUSED


class DiskFull(Stop):
    """Ends a run that could not write: the disk is full, or writing is forbidden (exit code 74)."""

    exit_code = DISK


class TrainingFailed(Stop):
    """Ends a training that cannot continue: a loss is not finite, a rank died (exit code 1)."""
