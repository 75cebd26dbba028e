"""The process in which a run takes place: one run at a time, and afterwards it is as it was before.

A notebook, a page of Gradio or a worker of Ray goes on when a run is over, and often begins the next one.
"""

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import datasets
import torch
import transformers

from recipes.common.runtime import signals
from recipes.common.runtime.errors import Refusal

_running = threading.RLock()


@contextmanager
def kept() -> Iterator[None]:
    """Within it one run takes place; afterwards stop signals, environment variables, warnings, bars and what libraries
    say are as they were before."""
    if not _running.acquire(blocking=False):
        fix = "wait until it is over, or start each run in a process of its own"
        raise Refusal("another run goes on in this process", "main()", fix)
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
    """The words of this process's command line; none in a notebook, whose kernel was started with words of its own."""
    return [] if Path(sys.argv[0]).stem.endswith("kernel_launcher") else sys.argv[1:]


@contextmanager
def _environment() -> Iterator[None]:
    """Variables tell accelerate, DeepSpeed and cuBLAS what a run wants, and would tell the next one, too."""
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
    bars, theirs = (
        transformers.utils.logging.is_progress_bar_enabled(),
        datasets.are_progress_bars_disabled(),
    )
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
        if not theirs:
            datasets.enable_progress_bars()


@contextmanager
def _determinism() -> Iterator[None]:
    """--full_determinism, --tf32."""
    exact, only_warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    precision = torch.backends.fp32_precision
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(exact, warn_only=only_warns)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        torch.backends.fp32_precision = precision
