"""What a user did wrong: what, where, what to do (three lines) and the exit code."""

import difflib
import errno
import gc
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from recipes.common.runtime import secrets, signals, streams

COMPLETE, FAILED, REFUSED, INTERNAL, DISK, INTERRUPTED = 0, 1, 2, 70, 74, 130
LESS_MEMORY = (
    "lower --per_device_train_batch_size (--global_batch_size keeps the step), or --gradient_checkpointing true"
)
FREE_SPACE = "free some space, then run the same command: it goes on from the last checkpoint"
WORKERS = "lower --dataloader_num_workers or --preprocessing_num_workers, or give the machine more memory"
NO_SHARED = "a process that makes batches has too little shared memory"
KILLED_ONE = "was killed, perhaps for its memory"
SHARED = "allow more shared memory (docker run --shm-size=8g), or --dataloader_num_workers 0"
# What libraries say of a process of theirs that has died, and what it means: what, where, fix.
KILLED = {
    "Bus error": (NO_SHARED, "/dev/shm", SHARED),
    "unable to allocate shared memory": (NO_SHARED, "/dev/shm", SHARED),
    "DataLoader worker (pid": (f"a process that makes batches {KILLED_ONE}", "this machine", WORKERS),
    "subprocesses has abruptly died": (f"a process that tokenises {KILLED_ONE}", "this machine", WORKERS),
    "process pool was terminated abruptly": (f"a process {KILLED_ONE}", "this machine", WORKERS),
}
WRITABLE = "name a folder that this user may write: --output_dir, or TMPDIR, HOME and HF_HOME in the environment"
IMPOSSIBLE = {errno.ENAMETOOLONG, errno.ELOOP}  # what no file system can have as a path
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
    shown = secrets.without_passwords(text)
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


def disk_error(error: BaseException) -> str:
    """What the system says where writing failed, also through a library that passes it on in words, or that fails again
    while it tidies up; otherwise ""."""
    found = (_disk_error(one) for one in _chain(error))
    return next(filter(None, found), "")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it followed from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _disk_error(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
        number = int(found[1])
    # torch.save, by which DeepSpeed and FSDP write their states, keeps the number for itself.
    if any(words in str(error) for words in ("PytorchStreamWriter failed", "iostream error")):
        number = errno.ENOSPC
    if re.fullmatch(r"\d+ requested and \d+ written", str(error)):  # numpy's tofile
        number = errno.ENOSPC
    return os.strerror(number) if number in DISK_ERRORS else ""


def reason(error: Exception) -> str:
    """The first line of what a library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def guard(main: Callable[[], Any], outlives_reader: bool = True) -> None:
    """Runs a recipe's `main` and leaves the process with the exit code that belongs to how it ended.

    A training goes on when nobody reads its output any more; what only answers (`outlives_reader` false) ends then.
    """
    signals.alone()
    gc.freeze()  # imports stay: to look for garbage among them, as is done before the first step, takes 0.4 s
    with streams.standard(outlives_reader):
        try:
            main()
        except BaseException as error:
            _conclude(error)


def _conclude(error: BaseException) -> None:
    """Says how a run ended, and leaves the process with the exit code that belongs to it."""
    if isinstance(error, Stop):
        _end(error)
    if isinstance(error, KeyboardInterrupt):
        print("\nstopped by Ctrl-C; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if isinstance(error, signals.Stopped):
        if is_main_process():
            print(f"\n{error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if isinstance(error, BrokenPipeError):
        streams.lose(sys.stdout)
        sys.exit(COMPLETE)
    if not isinstance(error, Exception):
        raise error
    if found := _not_a_bug(error):
        _end(found)
    _internal()


def _not_a_bug(error: Exception) -> Stop | None:
    """What the machine, the environment or a missing package did, as what it is."""
    text, name = str(error), type(error).__name__
    place = str(getattr(error, "filename", None) or "")
    if reason := disk_error(error):
        fix = FREE_SPACE if reason != os.strerror(errno.EROFS) else WRITABLE
        return DiskFull(reason, place or f"{tempfile.gettempdir()}, or the output folder", fix)
    if name == "OutOfMemoryError":  # torch's, which is not imported for this
        return TrainingFailed("the GPU has too little memory", "this run", LESS_MEMORY)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        return TrainingFailed("this machine has too little memory", "this run", LESS_MEMORY)
    if found := next((words for words in KILLED if words in text), ""):
        return TrainingFailed(*KILLED[found])
    if getattr(error, "errno", None) in IMPOSSIBLE or "embedded null" in text:
        what = getattr(error, "strerror", None) or text
        return Refusal(what, visible(place, 60) or "a path", "look at the flag that names this path")
    if isinstance(error, PermissionError) or "No usable temporary directory" in text:
        what = error.strerror or text if isinstance(error, OSError) else text
        return Refusal(what, place or "this environment", WRITABLE)
    if "pip install" in text:  # a package that only some flag needs, in the words of the library that asks
        return Refusal(" ".join(text.split()), "this environment", "install it, or leave the flag out")
    return None


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
