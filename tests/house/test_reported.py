"""The harness of people's command lines: a few of them here; all of them: `python tests/reported.py`."""

import subprocess
import sys

import pytest
import reported
from conftest import ROOT


def test_every_report_has_a_name_of_its_own_and_ends_in_a_known_way():
    names = [report.name for report in reported.REPORTS]
    assert len(names) == len(set(names)) > 80
    assert {report.code for report in reported.REPORTS} == {0, 1, 2}


def test_the_last_value_of_a_repeated_flag_stays_and_other_commands_are_left_alone():
    line = "recipes finetune sentiment --seed 1 --output_dir a --seed 2 && ls out | head -1"
    assert reported.without_repeats(line) == (
        "recipes finetune sentiment --seed 2 --output_dir a && ls out | head -1"
    )


@pytest.mark.parametrize(
    ("code", "said", "found"),
    [
        (2, "error: no\n  where: a\n  fix: b", ""),
        (0, "error: no", "exit code 0, not 2"),
        (2, "error: no\nb\nc\nd", "more than three lines"),
        (2, "Traceback (most recent call last)\nerror: no", "a traceback"),
        (2, "error: words", "does not say 'no'"),
    ],
)
def test_a_report_is_judged_by_its_code_its_words_and_its_length(code, said, found):
    assert reported.judged(reported.Report("name", 2, "no", "line"), code, said) == found


@pytest.mark.parametrize(
    ("code", "says", "said", "shown"),
    [
        (2, "no", "read\nerror: no\n  where: a", ["error: no", "where: a"]),
        (0, "head", "head  new\ndone\n", ["head  new"]),
        (0, "", "head  new\ndone\n\n", ["done"]),
        (0, "", "", []),
    ],
)
def test_what_a_report_shows_of_its_output(code, says, said, shown):
    assert reported.key_lines(reported.Report("name", code, says, "line"), said) == shown


@pytest.mark.slow
def test_some_reports_end_as_they_say():
    command = [sys.executable, str(ROOT / "tests/reported.py"), "--every", "30", "--first", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert "3 of 3 good" in ended.stdout
