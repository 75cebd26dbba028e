"""What a user did wrong: what, where, what to do (three lines) and the exit code."""

from recipes.common.runtime.messages import visible

COMPLETE, FAILED, REFUSED, INTERNAL, DISK, INTERRUPTED = 0, 1, 2, 70, 74, 130


class Stop(Exception):
    """Ends a run with a message of at most three lines and its own exit code; never shown as a traceback."""

    exit_code = FAILED

    def __init__(self, what: str, where: str = "", fix: str = ""):
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        lines = [
            f"error: {self.what}",
            f"  where: {self.where}" if self.where else "",
            f"  fix: {self.fix}",
        ]
        return "\n".join(visible(line) for line in lines if line and line != "  fix: ")


class Refusal(Stop):
    """Input, configuration or checkpoint that this run does not accept (exit code 2)."""

    exit_code = REFUSED


class DiskFull(Stop):
    """What was to be written did not fit, or may not be written (exit code 74)."""

    exit_code = DISK


class TrainingFailed(Stop):
    """Training could not go on: a loss that is not finite, a rank that died (exit code 1)."""
