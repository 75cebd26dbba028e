"""Runs a recipe and ends the process with the exit code that belongs to how the run ended."""

import errno
import gc
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from recipes.common.runtime import signals, streams, upstream
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

LESS_MEMORY = (
    "lower --per_device_train_batch_size (--global_batch_size keeps the step), "
    "or --gradient_checkpointing true"
)
WORKERS = (
    "lower --dataloader_num_workers or --preprocessing_num_workers, or give the machine more memory"
)
SHARED = "allow more shared memory (docker run --shm-size=8g), or --dataloader_num_workers 0"
NO_SHARED = "a process that makes batches has too little shared memory"
KILLED_ONE = "was killed, perhaps because memory ran out"
# Words of libraries about a process that died -> the message: what, where, fix.
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
WRITABLE = (
    "name a folder that this user may write to: --output_dir, "
    "or TMPDIR, HOME and HF_HOME in the environment"
)
IMPOSSIBLE = {errno.ENAMETOOLONG, errno.ELOOP}  # no file system can have such a path
ANOTHER_PROCESS = 3  # seconds before a process other than the main one shows its error


def run_and_exit(main: Callable[[], object], outlives_reader: bool = True) -> None:
    """Runs a recipe's `main` and leaves the process with the exit code that belongs to its end.

    A training continues when nobody reads its output any more. A command whose only purpose is its
    output (`outlives_reader` false) ends then.
    """
    signals.process_ends_with_run()
    # Otherwise the garbage collection before the first step searches all imports, for 0.4 s.
    gc.freeze()
    with streams.standard(outlives_reader):
        try:
            main()
        except BaseException as error:
            _conclude(error)


def _conclude(error: BaseException) -> NoReturn:
    """Says how a run ended and leaves the process with the exit code that belongs to it."""
    if isinstance(error, Stop):
        _end(error)
    if isinstance(error, KeyboardInterrupt):
        print(
            "\nstopped by Ctrl-C; the same command continues from the last checkpoint",
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
    stop = _not_a_bug(error)
    if stop:
        _end(stop)
    _internal()


def _not_a_bug(error: Exception) -> Stop | None:
    """Returns the message for an error of the disk, memory, permissions, a package or a model.

    Returns None where the error is none of these: it is a bug.
    """
    known = (_disk_failed, _memory_failed, _system_refuses, _model_misfits)
    for found in known:
        if stop := found(error):
            return stop
    return None


def _disk_failed(error: Exception) -> DiskFull | None:
    words = disk_error(error)
    if not words:
        return None
    where = _path_of(error) or f"{tempfile.gettempdir()}, or the output folder"
    if words == os.strerror(errno.EROFS):
        return DiskFull(words, where, WRITABLE)
    return DiskFull(words, where, FREE_SPACE)


def _memory_failed(error: Exception) -> TrainingFailed | None:
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError":  # torch's; torch is not imported here
        return TrainingFailed("the GPU has too little memory", "this run", LESS_MEMORY)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        return TrainingFailed("this machine has too little memory", "this run", LESS_MEMORY)
    for words, (what, where, fix) in KILLED.items():
        if words in text:
            return TrainingFailed(what, where, fix)
    return None


def _system_refuses(error: Exception) -> Refusal | None:
    text = str(error)
    place = _path_of(error)
    words = getattr(error, "strerror", None) or text
    if getattr(error, "errno", None) in IMPOSSIBLE or "embedded null" in text:
        where = visible(place, 60) or "a path"
        return Refusal(words, where, "look at the flag that names this path")
    if isinstance(error, PermissionError) or "No usable temporary directory" in text:
        return Refusal(words, place or "this environment", WRITABLE)
    if "pip install" in text:  # a library asks for a package that only some flag needs
        what = " ".join(text.split())
        return Refusal(what, "this environment", "install it, or leave the flag out")
    return None


def _model_misfits(error: Exception) -> Refusal | None:
    """Recognises an id or a position that is beyond one of the model's tables.

    The sizes that --config_overrides sets are tried on a few tokens before the training. Longer
    texts may still need larger tables (T5 with fewer relative distances than buckets).
    """
    if isinstance(error, IndexError) and "index out of range in self" in str(error):
        what = "an id or a position is beyond one of the model's tables"
        fix = "choose sizes that fit each other, or leave them out"
        return Refusal(what, "--config_overrides, or the configuration of the model", fix)
    return None


def _path_of(error: Exception) -> str:
    return str(getattr(error, "filename", None) or "")


def _let_main_process_speak() -> None:
    """Waits in every process but the main one, so that an error of all processes is shown once.

    The launcher ends the other processes as soon as the main one has ended. An error of another
    process alone is shown three seconds later.
    """
    if not is_main_process():
        try:
            time.sleep(ANOTHER_PROCESS)
        except signals.Stopped as stopped:
            os._exit(stopped.exit_code)


def _close_bars() -> None:
    """Ends the line of every progress bar, or the message would stand behind the bar."""
    if "tqdm" in sys.modules:
        for bar in upstream.bars(sys.modules["tqdm"].tqdm):
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
