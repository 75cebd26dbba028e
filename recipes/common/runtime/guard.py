"""Runs a recipe and ends the process with the exit code that belongs to how it ended."""

import errno
import gc
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from recipes.common.runtime import signals, streams
from recipes.common.runtime.disk_errors import FREE_SPACE, disk_error
from recipes.common.runtime.errors import (
    COMPLETE,
    INTERNAL,
    INTERRUPTED,
    DiskFull,
    Refusal,
    Stop,
    TrainingFailed,
)
from recipes.common.runtime.messages import is_main_process, visible, visible_lines

LESS_MEMORY = "lower --per_device_train_batch_size (--global_batch_size keeps the step), or --gradient_checkpointing true"
WORKERS = (
    "lower --dataloader_num_workers or --preprocessing_num_workers, or give the machine more memory"
)
NO_SHARED = "a process that makes batches has too little shared memory"
KILLED_ONE = "was killed, perhaps for its memory"
SHARED = "allow more shared memory (docker run --shm-size=8g), or --dataloader_num_workers 0"
# What libraries say of a process of theirs that has died, and what it means: what, where, fix.
KILLED = {
    "Bus error": (NO_SHARED, "/dev/shm", SHARED),
    "unable to allocate shared memory": (NO_SHARED, "/dev/shm", SHARED),
    "DataLoader worker (pid": (
        f"a process that makes batches {KILLED_ONE}",
        "this machine",
        WORKERS,
    ),
    "subprocesses has abruptly died": (
        f"a process that tokenises {KILLED_ONE}",
        "this machine",
        WORKERS,
    ),
    "process pool was terminated abruptly": (f"a process {KILLED_ONE}", "this machine", WORKERS),
}
WRITABLE = "name a folder that this user may write: --output_dir, or TMPDIR, HOME and HF_HOME in the environment"
IMPOSSIBLE = {errno.ENAMETOOLONG, errno.ELOOP}  # what no file system can have as a path


def _let_main_process_speak() -> None:
    """What went wrong in every process is said once: the launcher ends the others as soon as the first has ended. What
    went wrong in another process alone is said three seconds later."""
    if not is_main_process():
        try:
            time.sleep(3)
        except signals.Stopped as stopped:
            os._exit(stopped.exit_code)


def run_and_exit(main: Callable[[], Any], outlives_reader: bool = True) -> None:
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
        print(
            "\nstopped by Ctrl-C; the same command goes on from the last checkpoint",
            file=sys.stderr,
        )
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
        return Refusal(
            what, visible(place, 60) or "a path", "look at the flag that names this path"
        )
    if isinstance(error, PermissionError) or "No usable temporary directory" in text:
        what = error.strerror or text if isinstance(error, OSError) else text
        return Refusal(what, place or "this environment", WRITABLE)
    if (
        "pip install" in text
    ):  # a package that only some flag needs, in the words of the library that asks
        return Refusal(
            " ".join(text.split()), "this environment", "install it, or leave the flag out"
        )
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
    print(
        "error: this is a bug in the recipe, not in your input; please report the lines above",
        file=sys.stderr,
    )
    sys.exit(INTERNAL)
