"""What may end in exit code 70, "a bug in the recipe": only what no user can cause."""

import ast

import pytest
from conftest import ROOT

# The modules that raise an error of Python's own, and why it does not reach a user as an internal one.
REASONS = {
    "tensor_files": "read within retention.readable, which refuses what no run writes",
    "retention": "raised within retention.readable",
    "weights": "raised within retention.readable",
    "callbacks": "raised within retention.readable",
    "stream": "the position in a stream, read within retention.readable",
    "engines": "a message of transformers in other words, which tests/config/test_engines.py would meet",
    "sources": "a folder of the Hub is asked for only where --dataset_name names it",
    "splits": "labels are asked for only by recipes that have some",
    "json_rows": "caught where the line is read, and refused with its place",
    "upstream": "caught in saved_folders, which refuses the folder with its place",
    "joining": "a process that does not answer: Trainer.train makes a TrainingFailed of it",
    "services": "raised within services.refused, which refuses",
    "tokenizer_training": "a mistake of whoever writes a recipe: an iterator where a list must be",
}
OF_PYTHON = {
    "Exception",
    "ArithmeticError",
    "AssertionError",
    "KeyError",
    "LookupError",
    "NotImplementedError",
}
OF_PYTHON |= {"OSError", "RuntimeError", "TypeError", "ValueError"}


def raised(path):
    """The errors of Python's own that a module raises, and its assertions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assert):
            yield "AssertionError"
        if isinstance(node, ast.Raise) and node.exc is not None:
            name = ast.unparse(node.exc).partition("(")[0]
            if name in OF_PYTHON:
                yield name


MODULES = sorted(
    [*ROOT.glob("recipes/common/**/*.py"), *ROOT.glob("recipes/*/run.py"), ROOT / "cli.py"]
)


def test_there_are_modules():
    assert len(MODULES) > 40


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_error_of_python_s_own_has_a_reason(path):
    found = [*raised(path)]
    assert not found or path.stem in REASONS, found


def test_every_reason_is_needed():
    assert {path.stem for path in MODULES if [*raised(path)]} == {*REASONS}
