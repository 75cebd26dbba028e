"""What a user did wrong: what, where, what to do (three lines) and the exit code."""

import difflib
import errno
import gc
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from recipes.common import secret, signals

COMPLETE, FAILED, REFUSED, INTERNAL, DISK, INTERRUPTED = 0, 1, 2, 70, 74, 130
LESS_MEMORY = (
    "lower --per_device_train_batch_size (--global_batch_size keeps the step), or --gradient_checkpointing true"
)
FREE_SPACE = "free some space, then run the same command: it goes on from the last checkpoint"
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


class Stop(Exception):
    """Ends a run with a message of at most three lines and its own exit code; never shown as a traceback."""

    exit_code = FAILED

    def __init__(self, what: str, where: str = "", fix: str = ""):
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        lines = [f"error: {self.what}", f"  where: {self.where}" if self.where else "", f"  fix: {self.fix}"]
        return "\n".join(visible(line) for line in lines if line and line != "  fix: ")


class Refusal(Stop):
    """Input, configuration or checkpoint that this run does not accept (exit code 2)."""

    exit_code = REFUSED


class DiskFull(Stop):
    """What was to be written did not fit, or may not be written (exit code 74)."""

    exit_code = DISK


class TrainingFailed(Stop):
    """Training could not go on: a loss that is not finite, a rank that died (exit code 1)."""


def visible(text: str, limit: int = 300) -> str:
    """One printable line: line breaks and terminal escapes in a user's data become visible, passwords in addresses do
    not; long text is cut."""
    shown = secret.without_passwords(text)
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def visible_lines(text: str) -> str:
    """The text with its line breaks and tabs, and without any other control character."""
    return "".join(part if part in "\n\t" else visible(part, 10 * len(part)) for part in re.split(r"([\n\t])", text))


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes (rank 0, or the only one)."""
    return os.environ.get("RANK", "0") == "0"


def note(message: str) -> None:
    """One line on standard error that a user may want to know."""
    if is_main_process():
        print(f"note: {visible(message)}", file=sys.stderr)


def warn(message: str) -> None:
    """One line on standard error that a user should look into."""
    if is_main_process():
        print(f"warning: {visible(message)}", file=sys.stderr)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that looks most like `word`, or an empty string where none is close."""
    known = list(known)
    folded = {name.lower().replace("-", "_"): name for name in known}
    matches = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else ""


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """The way out of a wrong name: the known one that looks most like it, or what is said otherwise."""
    close = nearest(word, known)
    return f"did you mean {close}?" if close else otherwise


def _let_main_process_speak() -> None:
    """What went wrong in every process is said once: the launcher ends the others as soon as the first has ended. What
    went wrong in another process alone is said three seconds later."""
    if not is_main_process():
        try:
            time.sleep(3)
        except signals.Stopped as stopped:
            os._exit(stopped.exit_code)


def disk_error(error: Exception) -> str:
    """What the system says where writing failed, also through a library that passes it on in words; otherwise ""."""
    number = getattr(error, "errno", None)
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
        number = int(found[1])
    # torch.save, by which DeepSpeed and FSDP write their states, keeps the number for itself.
    if any(words in str(error) for words in ("PytorchStreamWriter failed", "iostream error")):
        number = errno.ENOSPC
    return os.strerror(number) if number in DISK_ERRORS else ""


def reason(error: Exception) -> str:
    """The first line of what a library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def guard(main: Callable[[], Any]) -> None:
    """Runs a recipe's `main` and leaves the process with the exit code that belongs to how it ended."""
    signals.alone()
    gc.freeze()  # imports stay: to look for garbage among them, as is done before the first step, takes 0.4 s
    try:
        main()
    except Stop as stop:
        _end(stop)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except signals.Stopped as stopped:
        if is_main_process():
            print(f"\n{stopped}", file=sys.stderr)
        sys.exit(stopped.exit_code)
    except Exception as error:
        if reason := disk_error(error):
            _end(DiskFull(reason, getattr(error, "filename", None) or "", FREE_SPACE))
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for this
            _end(TrainingFailed("the GPU has too little memory", "this run", LESS_MEMORY))
        if "pip install" in str(error):  # a package that only some flag needs, in the words of the library that asks
            _end(Refusal(" ".join(str(error).split()), "this environment", "install it, or leave the flag out"))
        _internal()


def _close_bars() -> None:
    """Bars that are still drawn end their line, or the message would stand behind them."""
    if "tqdm" in sys.modules:
        for bar in list(sys.modules["tqdm"].tqdm._instances):
            bar.close()


def _end(stop: Stop) -> NoReturn:
    _let_main_process_speak()
    _close_bars()
    print(stop, file=sys.stderr)
    sys.exit(stop.exit_code)


def _internal() -> NoReturn:
    _let_main_process_speak()
    print(visible_lines(traceback.format_exc()), file=sys.stderr)
    print("error: this is a bug in the recipe, not in your input; please report the lines above", file=sys.stderr)
    sys.exit(INTERNAL)
