"""Runs that are killed and go on end as runs that were never stopped; all of them: `python tests/killing.py`."""

import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow
COMMANDS = [
    "killing.py kill --trials 20",
    "killing.py stop --trials 20",
    "killing.py matrix --every 11",
]
COMMANDS += ["killing.py stop --trials 20 --workers 2", "faults.py --every 23"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_run_goes_on_to_the_same_bits(command):
    script, *words = command.split()
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests" / script), *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    trials = [line for line in ended.stdout.splitlines() if line.endswith(": identical")]
    assert len(trials) > 10
    assert ended.stdout.splitlines()[-1] == f"{len(trials)} of {len(trials)} identical"
