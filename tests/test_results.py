"""benchmarks/RESULTS.md: a section is written in the place of its last one, and the others stay."""

import sys

import pytest

from benchmarks import results


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(results.RESULTS.parent / "run.py"), "--data", "/home/me", "--work", "a b"])
    return tmp_path / "RESULTS.md"


def test_sections_stand_in_the_order_in_which_they_first_came(path):
    for heading, body in (("One", "1"), ("Two", "2"), ("One", "3")):
        results.record(heading, body, path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith(results.TITLE)
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## One", "## Two"]
    assert [line for line in text.splitlines() if line in ("1", "2", "3")] == ["3", "2"]


def test_a_section_names_its_command_without_this_machine_s_folders(path):
    results.record("One", "1", path)
    assert '`python benchmarks/run.py --data DIR --work "a b"`, commit ' in path.read_text(encoding="utf-8")
