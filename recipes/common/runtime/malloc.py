"""Keeps the memory that a step frees for the next step.

On a CPU, getting it again from the system took a tenth of a training's time.
"""

import ctypes
import platform

# Parameters of mallopt(3).
TRIM_THRESHOLD = -1
TOP_PAD = -2
MMAP_MAX = -4
PAD = 64 * 2**20
SETTINGS = {MMAP_MAX: 0, TRIM_THRESHOLD: -1, TOP_PAD: PAD}


def keep() -> bool:
    """Tells glibc to keep freed memory, and returns whether it does.

    By default glibc maps new memory for every large array. Its pages are zeroed one by one at their
    first use: a million page faults in a minute (benchmarks/LOG.md).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(name, value) for name, value in SETTINGS.items())
