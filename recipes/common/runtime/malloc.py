"""Memory that a step frees is kept for the next one: on a CPU, fetching it anew took a tenth of a training's time."""

import ctypes
import platform

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # mallopt(3)
PAD = 64 * 2**20


def keep() -> bool:
    """Tells glibc to keep what is freed; whether it does.

    By default every large array is mapped anew and its pages are zeroed one by one as they are touched: a million page
    faults in a minute (benchmarks/LOG.md).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1), (TOP_PAD, PAD))
    return all(library.mallopt(name, value) for name, value in settings)
