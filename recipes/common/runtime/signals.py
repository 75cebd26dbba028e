"""Handles signals that stop a run.

A training stops at its next step. Any other part of a run stops at once.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import context
from multiprocessing.popen_fork import Popen
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | int | None
NAMES = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
SIGNAL_OF_DEATH = 1  # PR_SET_PDEATHSIG (linux/prctl.h)
# Seconds in which signals count as one: Ctrl-C comes from the terminal and from the launcher.
COUNTS_AS_ONE = 1.0
SENT_AGAIN_AFTER = 0.05  # seconds, for a signal that was lost
TIME_TO_END = 0.5  # seconds in which a worker of a stopped run may end by itself
_process = os.getpid()
_received: signal.Signals | None = None
_received_at = 0.0
_is_polled = False
_ends_with_run = False
_handlers_before: dict[int, Handler] = {}
_unraisable_hook_before = sys.unraisablehook


class Stopped(BaseException):
    """Ends a run that a signal stopped. A library's `except Exception` does not catch it."""

    def __init__(self, number: int, step: int = 0):
        self.name = signal.Signals(number).name
        self.step = step
        self.exit_code = 143
        if number == signal.SIGINT:
            self.exit_code = 130
        super().__init__(self.name)

    def __str__(self) -> str:
        where = ""
        if self.step:
            where = f" after step {self.step:,}"
        return f"stopped by {self.name}{where}: the same command continues from the last checkpoint"


def listen() -> None:
    """Makes SIGTERM, SIGINT, SIGUSR1 and SIGHUP stop this process as this module says.

    A terminal that is closed sends SIGHUP; under `nohup` it is still ignored. A second signal ends
    the process at once.

    Python lets only the main thread set handlers. In another thread the program that started it
    (Gradio, Ray) keeps its own.
    """
    global _process, _received, _unraisable_hook_before
    _process = os.getpid()
    _received = None
    if not _is_main_thread():
        return
    if sys.unraisablehook is not _unraisable:
        _unraisable_hook_before = sys.unraisablehook
        sys.unraisablehook = _unraisable
    for number in _heard():
        before = signal.signal(number, _on_signal)
        if before is not _on_signal:
            _handlers_before[number] = before


def _heard() -> list[int]:
    heard = list(SIGNALS)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        heard.remove(signal.SIGHUP)
    return heard


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def process_ends_with_run() -> None:
    """Says that this process ends with its run: no signal has to stop it afterwards."""
    global _ends_with_run
    _ends_with_run = True


def leave() -> None:
    """Ends the handling of signals after a run, and forgets the signal that came.

    Signals do again what they did before the run. They do nothing if the process ends with it.
    """
    global _received
    _received = None
    if sys.unraisablehook is _unraisable:
        sys.unraisablehook = _unraisable_hook_before
    if not _is_main_thread():
        return
    for number in SIGNALS:
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, _handler_after(number))


def _handler_after(number: int) -> Handler:
    if _ends_with_run:
        return signal.SIG_IGN
    return _handlers_before.get(number) or signal.SIG_DFL


def restore() -> None:
    """Does what `leave` does, unless the process ends with its run: then signals still count."""
    if not _ends_with_run:
        leave()


@contextmanager
def polled() -> Iterator[None]:
    """Surrounds a part of the run that looks for signals itself, with `received`.

    A signal that came meanwhile stops the run at the end of this part.
    """
    global _is_polled
    _is_polled = True
    try:
        yield
    finally:
        _is_polled = False
    if _received:
        raise Stopped(_received)


def received() -> int:
    """Returns the signal that came, or 0."""
    return _received or 0


def workers() -> context.BaseContext:
    """Returns the multiprocessing context from which a loader gets its workers on Linux.

    SIGTERM does not end these workers: torchrun and SLURM send it to all processes of a run, and
    the run needs its workers until it has stopped. `terminate` therefore kills a worker.

    A run that is stopped while its workers start never tells them to end. Torch then waits 5
    seconds for each worker. Python waits for them at its exit, without a limit.
    """

    class Killed(Popen):
        def terminate(self) -> None:
            self.kill()

    class Worker(context.ForkProcess):
        _Popen = staticmethod(Killed)

        def start(self) -> None:
            self._starter = os.getpid()
            # A new process inherits the blocked SIGTERM.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            try:
                super().start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

        def join(self, timeout: float | None = None) -> None:
            if timeout and _received:
                timeout = TIME_TO_END
            super().join(timeout)

        def run(self) -> None:
            _end_with(self._starter)
            super().run()

    class Forks(context.ForkContext):
        Process = Worker

    return Forks()


def _end_with(parent: int) -> None:
    """Lets the kernel end this process when its parent ends.

    Torch's workers only compare their parent with the one that they saw at their start. If that one
    had been killed before, they waited for ever.
    """
    ctypes.CDLL(None).prctl(SIGNAL_OF_DEATH, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _received, _received_at
    if os.getpid() != _process:
        _on_signal_in_child(number)
        return
    if _received:
        if time.monotonic() - _received_at > COUNTS_AS_ONE:
            os._exit(Stopped(number).exit_code)
        return
    _received_at = time.monotonic()
    _received = signal.Signals(number)
    if not _is_polled:
        raise Stopped(number)


def _on_signal_in_child(number: int) -> None:
    """Ends a process that loads or tokenises data on SIGTERM, which its parent sends.

    Ignores all else: Ctrl-C is for the parent.
    """
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _unraisable(lost: "sys.UnraisableHookArgs") -> None:
    """Sends a signal again that came while Python removed an object.

    Python only prints what is raised in `__del__`. After a signal, errors of objects that the
    stopped run left half made are not shown.
    """
    if isinstance(lost.exc_value, Stopped):
        _send_again(lost.exc_value)
    elif not _received:
        _unraisable_hook_before(lost)


def _send_again(stopped: Stopped) -> None:
    global _received
    _received = None
    later = threading.Timer(SENT_AGAIN_AFTER, os.kill, (os.getpid(), signal.Signals[stopped.name]))
    later.daemon = True
    later.start()
