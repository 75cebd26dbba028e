"""Every field with five values ends in a message or does what it says; all of them: `python tests/flags.py`."""

import re
import subprocess
import sys

import flags
import pytest
from conftest import ROOT

EVERY = 44  # no multiple of the five kinds: each of them is tried


@pytest.mark.slow
def test_every_field_has_five_values():
    trials = [*flags.trials(flags.RECIPES, "")]
    fields = {trial.field for trial in trials}
    assert len(trials) > 800
    assert len(trials) == len({(trial.recipe, trial.field, trial.kind) for trial in trials})
    assert {trial.kind for trial in trials} == {*flags.KINDS}
    assert flags.CONTRADICTIONS.keys() - fields == set()
    assert {*flags.fields("translation"), *flags.fields("sentiment")} - fields == set()


@pytest.mark.slow
def test_every_value_of_a_flag_ends_in_a_message_or_does_what_it_says():
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(ROOT / "tests/flags.py"),
        "--every",
        str(EVERY),
        "--first",
        "7",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    good, tried = re.search(r"(\d+) of (\d+) good", ended.stdout).groups()
    assert good == tried
    assert int(tried) >= 15
    assert "exit code 0" in ended.stdout and "exit code 2" in ended.stdout
