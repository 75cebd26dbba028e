"""A recipe of one's own is copied, listed and tested without an edit, in the clone and outside."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from recipes.common.runtime.errors import Refusal
from tools.new import new

RUN = ROOT / "recipes/sentiment/run.py"


def run_its_test(folder):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/recipes/test_my_reviews.py"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


def test_outside_the_clone_the_copy_brings_what_it_needs_and_its_test_passes(tmp_path):
    written = new("my_reviews", RUN, tmp_path)
    assert tmp_path / "recipes/my_reviews/run.py" in written
    assert (tmp_path / "recipes/common/train/trainer.py").is_file()
    assert "outputs/my_reviews" in (tmp_path / "recipes/my_reviews/config.yaml").read_text(
        encoding="utf-8"
    )
    ended = run_its_test(tmp_path)
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout


@pytest.mark.slow
def test_inside_a_clone_the_copy_is_listed_and_its_test_passes(tmp_path):
    clone = tmp_path / "clone"
    shutil.copytree(
        ROOT, clone, ignore=shutil.ignore_patterns(".venv", "outputs", ".git", "__pycache__")
    )
    command = [sys.executable, "cli.py", "new", "my_reviews", "--from", "sentiment"]
    subprocess.run(command, cwd=clone, check=True, capture_output=True)
    listed = subprocess.run(
        [sys.executable, "cli.py", "list"], cwd=clone, check=True, capture_output=True, text=True
    )
    assert "my_reviews" in listed.stdout
    assert not (clone / "recipes/my_reviews/common").exists()
    assert run_its_test(clone).returncode == 0


def test_an_existing_recipe_is_never_overwritten(tmp_path):
    new("my_reviews", RUN, tmp_path)
    with pytest.raises(Refusal, match="exists already"):
        new("my_reviews", RUN, tmp_path)


@pytest.mark.parametrize("name", ["My-Reviews", "2nd", "common", "../escape", ""])
def test_a_name_that_is_no_module_name_is_refused(name, tmp_path):
    with pytest.raises(Refusal, match="cannot be a recipe's name"):
        new(name, RUN, tmp_path)
    assert list(tmp_path.iterdir()) == []
