"""Stop signals: while a run trains they are kept for the next step, at any other time they end it at once."""

import copy
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.popen_fork import Popen
from types import FrameType
from typing import Any

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)
]
SIGNAL_OF_DEATH = 1  # PR_SET_PDEATHSIG (linux/prctl.h)
ONE = 1.0  # seconds: Ctrl-C reaches a process from the terminal and from its launcher, and still is one signal
AGAIN = 0.05  # seconds after which a signal comes again that was lost
ENDS = 0.5  # seconds that a worker of a stopped run has to end by itself
_process = os.getpid()
_received: signal.Signals | None = None
_at = 0.0
_kept = False
_alone = False
_before: dict[int, Any] = {}  # what signals did before the run
_lost = sys.unraisablehook  # who heard of errors in `__del__` before the run


class Stopped(BaseException):
    """Ends a run that a signal stopped; no library's `except Exception` takes it for an error of its own."""

    def __init__(self, number: int, step: int = 0):
        self.name, self.step = signal.Signals(number).name, step
        self.exit_code = 130 if number == signal.SIGINT else 143
        super().__init__(self.name)

    def __str__(self) -> str:
        where = f" after step {self.step:,}" if self.step else ""
        return f"stopped by {self.name}{where}: the same command goes on from the last checkpoint"


def listen() -> None:
    """From now on SIGTERM, SIGINT, SIGUSR1 and SIGHUP, which a terminal sends that is closed, stop this process as this
    module says; a second one ends it at once. `nohup` keeps its promise.

    In another thread than the main one they stay the affair of the program that began it (Gradio, Ray): Python lets
    only the main thread say what signals do.
    """
    global _process, _received, _lost
    _process, _received = os.getpid(), None
    if threading.current_thread() is not threading.main_thread():
        return
    if sys.unraisablehook is not _unraisable:
        _lost, sys.unraisablehook = sys.unraisablehook, _unraisable
    for number in _heard():
        before = signal.signal(number, _on_signal)
        if before is not _on_signal:
            _before[number] = before


def _heard() -> list[int]:
    ignored = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in SIGNALS if not (ignored and number == signal.SIGHUP)]


def alone() -> None:
    """This process is there for the run only: after it there is nothing to stop, it ends anyway."""
    global _alone
    _alone = True


def leave() -> None:
    """The run is over: signals do what they did before it (nothing, where the process ends with it), and the one that
    came is forgotten."""
    global _received
    _received = None
    if sys.unraisablehook is _unraisable:
        sys.unraisablehook = _lost
    for number in SIGNALS:
        if (
            signal.getsignal(number) is _on_signal
            and threading.current_thread() is threading.main_thread()
        ):
            signal.signal(
                number, signal.SIG_IGN if _alone else _before.get(number) or signal.SIG_DFL
            )


def restore() -> None:
    """As `leave`, where the process goes on; where it ends with the run, signals that come meanwhile still count."""
    if not _alone:
        leave()


@contextmanager
def kept() -> Iterator[None]:
    """A part of the run that looks for signals itself, with `received`; what is left at its end stops the run."""
    global _kept
    _kept = True
    try:
        yield
    finally:
        _kept = False
    if _received:
        raise Stopped(_received)


def received() -> int:
    """The signal that came, or 0."""
    return _received or 0


def workers() -> BaseContext:
    """How a loader gets its processes on Linux. SIGTERM does not end them: torchrun and SLURM send it to all of a run,
    which needs them until it has stopped. To terminate one is therefore to kill it.

    A run that is stopped while its workers begin never tells them to end. Torch then waits 5 seconds for each worker.
    Python waits for them at its exit, without a limit.
    """
    forks = copy.copy(multiprocessing.get_context("fork"))

    class Killed(Popen):
        def terminate(self) -> None:
            self.kill()

    class Worker(forks.Process):
        _Popen = staticmethod(Killed)

        def start(self) -> None:
            before = signal.pthread_sigmask(
                signal.SIG_BLOCK, {signal.SIGTERM}
            )  # it stays so in the new process
            try:
                super().start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

        def join(self, timeout: float | None = None) -> None:
            super().join(ENDS if timeout and _received else timeout)

        def run(self) -> None:
            _end_with(self._parent_pid)
            super().run()

    forks.Process = Worker
    return forks


def _end_with(parent: int) -> None:
    """Lets the kernel end this process with its parent. Torch's workers only look whether their parent is still the one
    that they found when they began: where it had been killed before, they waited for ever."""
    ctypes.CDLL(None).prctl(SIGNAL_OF_DEATH, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _received, _at
    if os.getpid() != _process:
        return _in_child(number)
    if _received and time.monotonic() - _at > ONE:
        os._exit(Stopped(number).exit_code)
    if not _received:
        _received, _at = signal.Signals(number), time.monotonic()
        if not _kept:
            raise Stopped(number)


def _in_child(number: int) -> None:
    """Processes that load or tokenise data end when their parent tells them to (SIGTERM); Ctrl-C is the parent's."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _unraisable(lost: Any) -> None:
    """Sends a signal again that came while Python removed an object: Python only prints what is raised in `__del__`.
    Shows no errors of objects that a stopped run left half made."""
    if isinstance(lost.exc_value, Stopped):
        return _again(lost.exc_value)
    if not _received:
        _lost(lost)


def _again(stopped: Stopped) -> None:
    global _received
    _received = None
    later = threading.Timer(AGAIN, os.kill, (os.getpid(), signal.Signals[stopped.name]))
    later.daemon = True
    later.start()
