"""Runs a process and measures it: its output, its time and its memory."""

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Runs a command and prints its peak memory. It is a process in between, because the memory of a
# process that this one starts would begin with this one's.
WITH_MEMORY = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print("\\n", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, sep="")
sys.exit(code)
"""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}


@dataclass(frozen=True)
class Ended:
    """Holds the output of a process, its wall seconds, and its peak memory in MB."""

    output: str
    seconds: float
    memory: float


def run(words: list[Any], folder: Path = ROOT, **environment: str) -> Ended:
    """Runs `python words…` to its end, without a network.

    Raises RuntimeError, with the end of the output, if it failed.
    """
    command = [sys.executable, *map(str, words)]
    variables, began = os.environ | OFFLINE | environment, time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-S", "-c", WITH_MEMORY, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables,
        cwd=folder,
    )
    seconds = time.perf_counter() - began
    output, _, memory = ended.stdout.decode(errors="replace").rstrip().rpartition("\n")
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{output[-3000:]}")
    return Ended(
        output.rstrip(), seconds, int(memory) / (1e6 if platform.system() == "Darwin" else 1e3)
    )
