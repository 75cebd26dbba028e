"""Every command in a README is parsed; those that need no network are run, with fewer steps."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT, load_recipe

from recipes.common import args, launch

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("recipes/*/README.md"))]
BLOCK = re.compile(r"```bash\n(.*?)```", re.S)
COMMANDS = [
    line for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8")) for line in block.splitlines()
]
TRAINING = [command for command in COMMANDS if " finetune " in command and "--help" not in command]
OFFLINE = [command for command in TRAINING if "--config" not in command]
SHORT = ["--max_steps", "2", "--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]


def run(words, folder=ROOT):
    words = [sys.executable, *words[1:]] if words[0] == "python" else words
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, check=False, timeout=300)


def shortened(command, output_dir, model):
    words = shlex.split(command.replace("outputs/sentiment ", f"{model} "))
    kept = words[: words.index("--output_dir")] if "--output_dir" in words else words
    return [*kept, "--output_dir", str(output_dir), *SHORT]


def test_there_are_commands():
    assert len(COMMANDS) >= 10
    assert len(TRAINING) >= 6
    assert len(OFFLINE) >= 3


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_targets_exist(command):
    assert run([*command.split(), "--dry-run"]).returncode == 0


@pytest.mark.parametrize("command", TRAINING)
def test_training_commands_parse(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    name, *flags = shlex.split(command.split(" finetune ")[1])
    arguments, training_arguments = args.parse(load_recipe(name).Arguments, str(launch.find(name)), flags)
    assert training_arguments.output_dir.startswith("outputs/")


@pytest.mark.parametrize("command", [command for command in COMMANDS if "--help" in command])
def test_help_runs(command):
    assert run(shlex.split(command)).returncode == 0


@pytest.mark.slow
def test_the_offline_commands_run(tmp_path):
    model = tmp_path / "sentiment"
    first = run(["python", "cli.py", "finetune", "sentiment", "--output_dir", str(model), *SHORT])
    assert first.returncode == 0, first.stderr
    for number, command in enumerate(OFFLINE):
        ended = run(shortened(command, tmp_path / str(number), model))
        assert ended.returncode == 0, f"{command}\n{ended.stderr}"
    asked = [command for command in COMMANDS if " predict " in command]
    assert asked
    for command in asked:
        words = shlex.split(command.replace("outputs/sentiment", str(model)).replace("outputs/", f"{tmp_path}/"))
        assert run(words).returncode == 0
    assert (
        run(["python", "cli.py", "new", "my_reviews", "--from", "sentiment", "--directory", str(tmp_path)]).returncode
        == 0
    )
