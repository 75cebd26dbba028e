"""Allows one run at a time in this process, and restores the process afterwards.

A notebook, a page of Gradio or a worker of Ray continues after a run, and often begins another one.
"""

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, cast

import datasets
import torch
import transformers

from recipes.common.runtime import signals
from recipes.common.runtime.errors import Refusal

_running = threading.RLock()


class _Backends(Protocol):
    fp32_precision: str


@contextmanager
def kept() -> Iterator[None]:
    """Surrounds one run, and refuses a second one at the same time.

    Afterwards stop signals, environment variables, warnings, progress bars, the libraries' log
    levels and torch's settings of determinism and precision are as they were before.
    """
    if not _running.acquire(blocking=False):
        fix = "wait until it is over, or start each run in a process of its own"
        raise Refusal("another run is active in this process", "main()", fix)
    try:
        with ExitStack() as stack:
            stack.callback(signals.restore)
            stack.enter_context(warnings.catch_warnings())
            for keep in (_environment, _verbosity, _determinism):
                stack.enter_context(keep())
            yield
    finally:
        _running.release()


def command_line() -> list[str]:
    """Returns the words of this process's command line.

    Returns none in a notebook: they are meant for its kernel.
    """
    if Path(sys.argv[0]).stem.endswith("kernel_launcher"):
        return []
    return sys.argv[1:]


@contextmanager
def _environment() -> Iterator[None]:
    """Restores the variables that pass a run's settings to accelerate, DeepSpeed and cuBLAS."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _verbosity() -> Iterator[None]:
    loggers = [transformers.utils.logging, datasets.utils.logging]
    levels = [logger.get_verbosity() for logger in loggers]
    transformers_had_bars = transformers.utils.logging.is_progress_bar_enabled()
    datasets_had_bars = not datasets.are_progress_bars_disabled()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)
        if transformers_had_bars:
            transformers.utils.logging.enable_progress_bar()
        if datasets_had_bars:
            datasets.enable_progress_bars()


@contextmanager
def _determinism() -> Iterator[None]:
    """Restores what --full_determinism and --tf32 change."""
    exact = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn_exact = torch.backends.cudnn.deterministic
    cudnn_benchmark = torch.backends.cudnn.benchmark
    # torch puts an object with this attribute in the place of its module.
    backends = cast(_Backends, torch.backends)
    precision = backends.fp32_precision
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(exact, warn_only=only_warns)
        torch.backends.cudnn.deterministic = cudnn_exact
        torch.backends.cudnn.benchmark = cudnn_benchmark
        backends.fp32_precision = precision
