"""The package: its ranges hold the tested versions, and its command is the same as cli.py."""

import importlib
import re
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

import recipes

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RANGES = {Requirement(line).name: Requirement(line) for line in PROJECT["dependencies"]}


def pins():
    """The requirements of requirements.txt, by name."""
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    wanted = [line.partition("#")[0].strip() for line in lines]
    return {Requirement(line).name: Requirement(line) for line in wanted if line}


def test_the_package_asks_for_what_is_tested_and_for_nothing_else():
    assert len(RANGES) > 20
    assert RANGES.keys() == pins().keys()


@pytest.mark.parametrize("name", RANGES)
def test_the_tested_version_is_within_the_range(name):
    (pin,) = pins()[name].specifier
    assert pin.operator == "==" and pin.version in RANGES[name].specifier
    assert str(pins()[name].marker) == str(RANGES[name].marker)


def test_the_newest_release_of_the_changelog_is_the_version():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    releases = re.findall(r"^## (\d+\.\d+\.\d+) ", text, re.MULTILINE)
    assert releases[0] == recipes.__version__


def test_the_command_is_the_same_as_cli_py(tmp_path):
    module, _, function = PROJECT["scripts"]["recipes"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    by_module = [sys.executable, "-m", "recipes", "list"]
    here = subprocess.run(by_module, cwd=tmp_path, env=environment, capture_output=True, check=True)
    by_script = [sys.executable, str(ROOT / "cli.py"), "list"]
    there = subprocess.run(by_script, cwd=tmp_path, capture_output=True, check=True)
    assert here.stdout == there.stdout != b""
