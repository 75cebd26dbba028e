"""Every command in a README is parsed; those that need no network are run, with fewer steps."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT, load_recipe, merged

from recipes.common import launch
from recipes.common.config import parsing

PAGES = [
    ROOT / "README.md",
    ROOT / "ds_configs/README.md",
    *sorted(ROOT.glob("recipes/*/README.md")),
]
BLOCK = re.compile(r"```bash\n(.*?)```", re.S)
COMMANDS = [
    line
    for page in PAGES
    for block in BLOCK.findall(page.read_text(encoding="utf-8"))
    for line in block.splitlines()
]
LAUNCHED = [
    command for command in COMMANDS if "--launcher" in command
]  # dry runs, and SLURM scripts
ESTIMATES = [command for command in COMMANDS if " estimate " in command]
TRAINING = [
    c
    for c in COMMANDS
    if re.search(" (finetune|pretrain) ", c) and "--help" not in c and c not in LAUNCHED
]
OFFLINE = [command for command in TRAINING if "--config" not in command]
USING = [
    command for command in COMMANDS if re.search(" (predict|generate|tokenizer train) ", command)
]
SHORT = "--max_steps 2 --eval_strategy no --save_strategy no --load_best_model_at_end false".split()


def run(words, folder=ROOT):
    words = [sys.executable, *words[1:]] if words[0] == "python" else words
    return subprocess.run(
        words, capture_output=True, text=True, cwd=folder, check=False, timeout=300
    )


def in_folder(command, folder):
    """The words of a command that writes to, and reads from, `folder` instead of outputs/."""
    words = shlex.split(command.replace("outputs/", f"{folder}/"))
    if command in TRAINING and "--output_dir" not in words:
        words += ["--output_dir", f"{folder}/{find(command).parent.name}"]
    return [*words[:4], *merged(*words[4:], *SHORT)] if command in TRAINING else words


def find(command):
    verb, name = re.search(" (finetune|pretrain) (\\w+)", command).groups()
    return launch.find(name, "_pretrain" if verb == "pretrain" else "")


def test_there_are_commands():
    assert len(COMMANDS) >= 10
    assert len(TRAINING) >= 6
    assert len(OFFLINE) >= 3
    assert len(LAUNCHED) >= 3
    assert ESTIMATES


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if command.startswith("make ")]
)
def test_make_targets_exist(command):
    assert run([*command.split(), "--dry-run"]).returncode == 0


@pytest.mark.parametrize("command", TRAINING)
def test_training_commands_parse(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    run_file = find(command)
    given = shlex.split(re.split(" (?:finetune|pretrain) \\w+", command)[1])
    arguments, training_arguments = parsing.parse(
        load_recipe(run_file.parent.name).Arguments, str(run_file), given
    )
    assert training_arguments.output_dir.startswith("outputs/")


@pytest.mark.parametrize("command", [command for command in COMMANDS if "--help" in command])
def test_help_runs(command):
    assert run(shlex.split(command)).returncode == 0


@pytest.mark.parametrize("command", [*LAUNCHED, *ESTIMATES])
def test_launches_and_estimates_run(command, tmp_path):
    ended = run(in_folder(command, tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert (
        ended.stdout.startswith("| GB") or "--dry-run" in command or (tmp_path / "job.sh").is_file()
    )


def test_the_printed_command_is_the_one_that_is_shown():
    command, shown = re.search(
        r"```bash\n(.*--dry-run)\n```\n\n```text\n\$ \S+ (.*)\n```", PAGES[1].read_text("utf-8")
    ).groups()
    assert run(shlex.split(command)).stdout.endswith(f"{shown}\n")


@pytest.mark.slow
def test_the_offline_commands_run(tmp_path):
    """In an order in which every command finds what it reads."""
    defaults = [command for command in OFFLINE if len(command.split()) == 4]
    missing = [
        name for name in launch.recipes() if not any(find(c).parent.name == name for c in defaults)
    ]
    assert missing == ["sentiment"]  # its default is `make demo`
    first = ["python cli.py finetune sentiment", *dict.fromkeys(defaults)]
    tokenizers = [command for command in USING if " tokenizer train " in command]
    others = [command for command in dict.fromkeys(OFFLINE) if command not in first]
    TRAINING.append(first[0])
    for command in [*first, *tokenizers, *others, *dict.fromkeys(USING)]:
        ended = run(in_folder(command, tmp_path))
        assert ended.returncode == 0, f"{command}\n{ended.stderr}"
    command = [
        *"python cli.py new my_reviews --from sentiment".split(),
        "--directory",
        str(tmp_path),
    ]
    assert run(command).returncode == 0


def test_the_commands_of_the_benchmarks_name_flags_that_there_are():
    page = (ROOT / "benchmarks/README.md").read_text("utf-8")
    commands = re.findall(r"^python benchmarks/(\w+)\.py(.*?)(?:#.*)?$", page, re.MULTILINE)
    assert len(commands) == 9
    for name, options in commands:
        source = (ROOT / f"benchmarks/{name}.py").read_text("utf-8")
        for flag in re.findall(r"--(\w+)", options):
            assert re.search(rf"^    {flag}: Annotated\[", source, re.MULTILINE), (name, flag)
