"""Runs that are killed and go on end as runs that were never stopped; all of them: `python tests/killing.py`."""

import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("words", [["kill", "--trials", "20"], ["stop", "--trials", "15"], ["matrix", "--every", "11"]])
def test_a_killed_run_goes_on_to_the_same_bits(words):
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests/killing.py"), *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    lines = ended.stdout.splitlines()
    assert len(lines) > 10
    assert lines[-1] == f"{len(lines) - 1} of {len(lines) - 1} identical"
