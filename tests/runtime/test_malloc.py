"""Memory on a CPU: what was freed is used again without being fetched anew."""

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource, sys, torch
from recipes.common.runtime import malloc

if sys.argv[1] == "keep":
    assert malloc.keep()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):
    before = faults()
    torch.ones(10_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_an_array_takes_the_place_of_one_that_was_freed():
    def pages(how):
        return int(subprocess.check_output([sys.executable, "-c", PAGES, how]))

    assert pages("as it is") >= 40_000_000 // 4096
    assert pages("keep") < 100


def test_other_systems_are_left_alone(monkeypatch):
    from recipes.common.runtime import malloc

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not malloc.keep()
