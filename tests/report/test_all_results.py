"""benchmarks/RESULTS.md: a section is written in the place of its last one, and the others stay."""

import re
import subprocess
import sys

import pytest

from benchmarks import results


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "machine", lambda: "a laptop")
    monkeypatch.setattr(
        sys, "argv", [str(results.RESULTS.parent / "run.py"), "--data", "/home/me", "--work", "a b"]
    )
    return tmp_path / "RESULTS.md"


def test_sections_stand_in_the_order_in_which_they_first_came(path):
    for heading, body in (("One", "1"), ("Two", "2"), ("One", "3")):
        results.record(heading, body, path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith(results.TITLE)
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## One (a laptop)",
        "## Two (a laptop)",
    ]
    assert [line for line in text.splitlines() if line in ("1", "2", "3")] == ["3", "2"]


def test_a_section_names_its_command_without_this_machine_s_folders(path):
    results.record("One", "1", path)
    assert '`python benchmarks/run.py --data DIR --work "a b"`, commit ' in path.read_text(
        encoding="utf-8"
    )


def test_the_results_of_another_machine_stay(path, monkeypatch):
    results.record("One", "1", path)
    monkeypatch.setattr(results, "machine", lambda: "a cluster")
    results.record("One", "2", path)
    text = path.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## One (a laptop)",
        "## One (a cluster)",
    ]


def test_the_machine_is_named_with_its_precision():
    assert re.fullmatch(r".+, (\d+ cores, )?(bf16|fp32)", results.machine())


def test_results_that_were_written_before_do_not_make_a_commit_dirty(tmp_path, monkeypatch):
    written, measured = tmp_path / "benchmarks/RESULTS.md", tmp_path / "recipe.py"
    written.parent.mkdir()
    monkeypatch.setattr(results, "RESULTS", written)
    for path in (written, measured):
        path.write_text("1", encoding="utf-8")
    author = ["-c", "user.name=me", "-c", "user.email=me@example.com"]
    for words in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    written.write_text("2", encoding="utf-8")
    assert re.fullmatch("[0-9a-f]{7,}", results.commit())
    measured.write_text("2", encoding="utf-8")
    assert results.commit().endswith("-dirty")
