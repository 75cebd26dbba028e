"""The command line: thin, quick, and with one answer to a wrong name."""

import json
import os
import subprocess
import sys
import time
from dataclasses import fields

import pytest
from conftest import ROOT, SCRATCH, SHORT, load_recipe
from typer.main import get_command
from typer.testing import CliRunner

from cli import app
from recipes.common import launch
from tools import describe

RECIPES = sorted(launch.recipes())


def cli(*words, folder=ROOT, columns=80, **options):
    command = [sys.executable, str(ROOT / "cli.py"), *words]
    environment = {**os.environ, "COLUMNS": str(columns)}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, check=False, env=environment, **options
    )


def test_there_are_recipes():
    assert "sentiment" in RECIPES


def test_list_names_every_recipe_with_its_sentence():
    printed = cli("list").stdout
    assert [line.split()[0] for line in printed.splitlines() if not line.startswith(" ")] == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_help_of_a_recipe_names_its_own_shared_and_training_flags(name):
    verb = "pretrain" if name.endswith("_pretrain") else "finetune"
    printed = cli(verb, name.removesuffix("_pretrain"), "--help").stdout
    assert printed == cli("show", name).stdout
    for flag in ("--train_file", "--model_name_or_path", "--learning_rate", "config.yaml"):
        assert flag in printed


@pytest.mark.parametrize("name", RECIPES)
def test_help_names_the_flags_that_the_recipe_has(name):
    """Those that all recipes share, and none of another kind of recipe, which it would refuse."""
    groups = describe.flags(launch.recipes()[name])
    shown = [flag.name for title in list(groups)[:-2] for flag in groups[title]]
    assert sorted(shown) == sorted(item.name for item in fields(load_recipe(name).Arguments))


@pytest.mark.parametrize("name", RECIPES)
def test_help_explains_every_flag_and_names_choices_and_default(name):
    groups = describe.flags(launch.recipes()[name])
    shown = {flag.name: flag for found in groups.values() for flag in found}
    assert len(shown) > 60
    assert [flag.name for flag in shown.values() if not flag.help] == []
    printed = cli("show", name, columns=300).stdout
    assert "Type of the weights in memory: float32 trains best" in printed
    assert "Choices: auto, bfloat16, float16, float32. ['float32']" in printed
    assert "The address of machine 0." in printed


@pytest.mark.parametrize("width", [60, 80, 120])
def test_help_is_as_wide_as_the_terminal(width):
    for words in (["--help"], ["list"], ["finetune", "--help"], ["show", "sentiment"]):
        lines = cli(*words, columns=width).stdout.splitlines()
        sentences = [
            line for line in lines if not line.lstrip().startswith(("python ", "accelerate "))
        ]
        assert len(lines) > 5
        assert [line for line in sentences if len(line) > width] == []


@pytest.mark.parametrize(
    "words", [["--help"], ["finetune", "sentiment", "--help"], ["list"]], ids=" ".join
)
def test_help_loads_no_torch(words):
    code = f"import sys; sys.argv = ['cli.py', *{words!r}]; import runpy\n"
    code += "try: runpy.run_path('cli.py', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert ended.stdout.splitlines()[-1] == "False"


def test_a_dry_run_prints_the_command_and_runs_nothing():
    began = time.monotonic()
    ended = cli("finetune", "sentiment", "--dry-run", "--seed", "3", "--class_names", "a b", "c")
    assert ended.stdout == "$ python recipes/sentiment/run.py --seed 3 --class_names 'a b' c\n"
    assert ended.returncode == 0
    assert time.monotonic() - began < 5


def numbers(group, *words):
    """Yields the words of each verb with each number that it takes."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from numbers(command, *words, name)
            continue
        for parameter in command.params:
            if parameter.bare_type() in ("int", "float", "list[float]"):
                yield [*words, name], parameter.opts[0]


NUMBERS = {" ".join([*words, name]): (words, name) for words, name in numbers(get_command(app))}
GIVEN = {"estimate memory": "1e9"}  # what a verb needs beside the number


def test_there_are_numbers():
    assert len(NUMBERS) > 10
    assert "generate --seed" in NUMBERS and "estimate memory parameters" in NUMBERS


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e30", "1" + "0" * 30, "two"])
@pytest.mark.parametrize("number", NUMBERS)
def test_every_verb_refuses_a_number_that_cannot_be(number, value):
    """A seed of -1 and a penalty of nan ended in "this is a bug in the recipe"."""
    words, name = NUMBERS[number]
    named = [f"{name}={value}"] if name.startswith("-") else ["--", value]
    refused = CliRunner().invoke(app, [*words, GIVEN.get(" ".join(words), "x"), *named])
    assert (refused.exit_code, "Invalid value for" in refused.output) == (2, True)


def test_an_unknown_recipe_is_refused_with_the_nearest_name():
    ended = cli("finetune", "sentimant")
    assert ended.returncode == 2
    assert "did you mean sentiment?" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_finetune_and_predict_from_arguments_standard_input_and_file(reviews):
    flags = ["--train_file", "train.csv", "--output_dir", "out", *SCRATCH, *SHORT]
    assert cli("finetune", "sentiment", *flags, folder=reviews).returncode == 0
    asked = cli("predict", "out", "good soup", "cold room", folder=reviews)
    lines = [line.split("\t") for line in asked.stdout.splitlines()]
    assert [(line[0] in ("negative", "positive"), line[2]) for line in lines] == [
        (True, "good soup"),
        (True, "cold room"),
    ]
    assert (
        cli("predict", "out", folder=reviews, input="good soup\ncold room\n").stdout == asked.stdout
    )
    assert (
        cli(
            "predict", "out", "--file", "test.csv", "--output", "a.jsonl", folder=reviews
        ).returncode
        == 0
    )
    rows = [json.loads(line) for line in (reviews / "a.jsonl").open(encoding="utf-8")]
    assert len(rows) == 8
    assert set(rows[0]) == {"text", "prediction", "score", "scores"}
    before = (reviews / "test.csv").read_bytes()
    for name in ("test.csv", "out"):
        ended = cli("predict", "out", "--file", "test.csv", "--output", name, folder=reviews)
        assert (ended.returncode, "fix: name another file" in ended.stderr) == (2, True)
    assert (reviews / "test.csv").read_bytes() == before


def test_prepare_adds_the_flag_that_stops_before_the_training(tmp_path):
    shown = cli("prepare", "mlm", "--prepared_dir", "prepared", "--dry-run", folder=tmp_path).stdout
    assert shown.endswith("recipes/mlm_pretrain/run.py --prepared_dir prepared --prepare_only\n")


def test_predict_refuses_a_folder_without_a_model(tmp_path):
    ended = cli("predict", "absent", "x", folder=tmp_path)
    assert ended.returncode == 2
    assert "no folder absent" in ended.stderr
