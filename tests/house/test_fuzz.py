"""Damaged files end in a message or are read as what they say; 2,000 of them: `python tests/fuzz.py`."""

import subprocess
import sys

import pytest
from conftest import ROOT

TRIALS = 150


@pytest.mark.slow
def test_damaged_files_end_in_a_message_or_are_read_as_what_they_say():
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(ROOT / "tests/fuzz.py"),
        "--trials",
        str(TRIALS),
        "--seed",
        "7",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert f"{TRIALS} of {TRIALS} good" in ended.stdout
    codes = dict(part.split(": ") for part in ended.stdout.splitlines()[-2].split(", "))
    assert int(codes["exit code 0"]) > TRIALS / 5
    assert int(codes["exit code 2"]) > TRIALS / 5
