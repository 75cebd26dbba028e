"""What a killed process left is removed by the next one, and nothing that a living one writes."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy
import pytest
from conftest import ROOT

from recipes.common.runtime import safe_folders
from recipes.common.tokens import cache

HOLD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from recipes.common.runtime.safe_folders import working_folder
with working_folder({prefix!r}, Path({parent!r})) as folder:
    (folder / "ids.bin").write_bytes(b"1234")
    print(folder, flush=True)
    time.sleep(100)
"""


@pytest.fixture
def held(tmp_path):
    """A process that writes in a folder below tmp_path, and that folder, as if it had been made a minute ago."""
    code = HOLD.format(root=str(ROOT), prefix=".preparing-", parent=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    folder = tmp_path / os.path.basename(process.stdout.readline().strip())
    make_old(folder)
    yield process, folder
    process.kill()
    process.wait()


def make_old(path):
    os.utime(path, (time.time() - 60,) * 2)


def write(folder):
    numpy.asarray([1, 2, 3], dtype=cache.TYPE).tofile(folder / "ids.bin")
    return {"tokens": 3}


def prepare(directory):
    arrays, _ = cache.arrays(str(directory), {}, write)
    assert arrays["ids"].tolist() == [1, 2, 3]


def test_a_folder_of_a_living_process_stays(held, tmp_path):
    _, folder = held
    prepare(tmp_path)
    assert (folder / "ids.bin").is_file()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_folder_of_a_killed_process_is_removed_by_the_next(number, held, tmp_path):
    process, folder = held
    process.send_signal(number)
    process.wait()
    assert folder.is_dir()
    prepare(tmp_path)
    assert not list(tmp_path.glob(".preparing-*"))


def test_a_folder_that_was_just_made_and_is_not_locked_yet_stays(tmp_path):
    (tmp_path / ".preparing-abc").mkdir()
    prepare(tmp_path)
    assert (tmp_path / ".preparing-abc").is_dir()


def test_what_is_half_removed_is_removed(tmp_path):
    (tmp_path / ".removing-abc").mkdir()
    make_old(tmp_path / ".removing-abc")
    prepare(tmp_path)
    assert not (tmp_path / ".removing-abc").exists()


def test_of_temporary_folders_those_of_this_project_are_removed_and_no_others(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = ["tokens-abc", "prepared-abc", "other"]
    for name in (*kept, "trainer-recipes-tokens-abc", "trainer-recipes-tokens-def"):
        (tmp_path / name).mkdir()
        make_old(tmp_path / name)
    (tmp_path / "trainer-recipes-tokens-link").symlink_to(tmp_path / "other")
    cache.arrays(None, {}, write)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "trainer-recipes-tokens-link"}


def test_a_folder_of_another_user_stays(tmp_path, monkeypatch):
    (tmp_path / "trainer-recipes-tokens-abc").mkdir()
    make_old(tmp_path / "trainer-recipes-tokens-abc")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    safe_folders.sweep(tmp_path, "trainer-recipes-tokens-")
    assert list(tmp_path.iterdir())


def test_where_nothing_can_be_locked_nothing_is_removed(tmp_path, monkeypatch):
    (tmp_path / ".preparing-abc").mkdir()
    make_old(tmp_path / ".preparing-abc")

    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(safe_folders.fcntl, "flock", refuse)
    prepare(tmp_path)
    assert (tmp_path / ".preparing-abc").is_dir()
