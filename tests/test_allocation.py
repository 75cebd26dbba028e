"""Memory on a CPU: what was freed is used again without being fetched anew."""

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource, sys, torch
from recipes.common import allocation

if sys.argv[1] == "keep":
    assert allocation.keep()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(30_000_000)
before = faults()
for _ in range(10):
    torch.ones(10_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_arrays_use_the_memory_that_a_larger_one_left():
    def pages(how):
        return int(subprocess.check_output([sys.executable, "-c", PAGES, how]))

    one = 40_000_000 // 4096
    assert pages("as it is") >= 10 * one
    assert pages("keep") < one


def test_other_systems_are_left_alone(monkeypatch):
    from recipes.common import allocation

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not allocation.keep()
