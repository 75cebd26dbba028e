"""The exact command line for one process, many processes and many machines.

What cannot be started is refused before it starts.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from recipes.common import launch
from recipes.common.launch import LAUNCHERS
from recipes.common.runtime.errors import Refusal

RECIPE = ROOT / "recipes/sentiment/run.py"
TWO = ["--num_machines", "2", "--num_processes", "4"]
REFUSED = {
    "an unknown launcher": (
        ["--launcher", "zero4", "--num_processes", "2"],
        "--launcher",
        "did you mean zero3?",
    ),
    "no number": (["--launcher", "ddp"], "--num_processes", "say --num_processes N"),
    "no process": (
        ["--launcher", "ddp", "--num_processes", "0"],
        "--num_processes",
        "a number from 1 to",
    ),
    "no process and no launcher": (["--num_processes", "0"], "--num_processes", "from 1 to"),
    "fewer than no process": (["--num_processes", "-1"], "--num_processes", "from 1 to"),
    "too many for a machine": (
        ["--num_processes", "513"],
        "--num_processes",
        "at most 512 per machine",
    ),
    "no machine": (["--num_machines", "0"], "--num_machines", "a number from 1 to"),
    "a rank below 0": ([*TWO, "--machine_rank", "-1"], "--machine_rank", "a number from 0 to"),
    "a port too high": (
        ["--num_processes", "2", "--main_process_port", "70000"],
        "--main_process_port",
        "a number from 1 to 65535",
    ),
    "a port below 0": (["--main_process_port", "-1"], "--main_process_port", "from 1 to 65535"),
    "a word for a number": (
        ["--num_processes", "two"],
        "the command line",
        "see python cli.py show",
    ),
    "uneven machines": (
        ["--num_machines", "2", "--num_processes", "3"],
        "--num_processes",
        "a multiple of 2",
    ),
    "no rank": (
        [*TWO, "--main_process_ip", "10.0.0.1"],
        "--machine_rank",
        "--machine_rank 0 on the first",
    ),
    "a rank too high": ([*TWO, "--machine_rank", "2"], "--machine_rank", "… 1 on the last"),
    "no address": ([*TWO, "--machine_rank", "1"], "--main_process_ip", "the address of machine 0"),
}


def words(*flags):
    world, left = launch.split(list(flags))
    return launch.command(RECIPE, left, world)


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_one_process_is_the_recipe_itself():
    assert words("--seed", "3") == ["python", "recipes/sentiment/run.py", "--seed", "3"]
    assert words("--num_processes", "1") == ["python", "recipes/sentiment/run.py"]


def test_every_launcher_starts_torchrun_and_says_what_it_asked_for():
    assert len(LAUNCHERS) == 7
    for launcher, added in LAUNCHERS.items():
        start = ["python", "tools/torchrun.py", "--standalone", "--nproc_per_node", "2"]
        expected = [
            *start,
            "recipes/sentiment/run.py",
            "--seed",
            "3",
            *added,
            "--num_processes",
            "2",
        ]
        assert words("--launcher", launcher, "--seed", "3", "--num_processes=2") == expected


def test_every_launcher_has_a_configuration_for_accelerate():
    assert all((ROOT / f"ds_configs/accelerate/{name}.yaml").is_file() for name in LAUNCHERS)


def test_several_processes_without_a_launcher_are_ddp():
    assert words("--num_processes", "2") == words("--launcher", "ddp", "--num_processes", "2")


def test_several_machines_meet_at_machine_0():
    found = words(*TWO, "--machine_rank", "1", "--main_process_ip", "10.0.0.1")
    assert found[2:12] == [
        *("--nnodes", "2", "--node_rank", "1"),
        *("--master_addr", "10.0.0.1", "--master_port", "29500"),
        *("--nproc_per_node", "2"),
    ]


@pytest.mark.parametrize("flag", launch.NEEDS_SEVERAL)
def test_what_has_no_effect_on_one_process_is_said(flag, capsys):
    assert words(f"--{flag}", "1") == words()
    assert f"--{flag} has no effect: there is one process" in capsys.readouterr().err


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_start_is_refused(case):
    flags, where, fix = REFUSED[case]
    with pytest.raises(Refusal) as caught:
        words(*flags)
    assert caught.value.where == where
    assert fix in caught.value.fix


def test_a_port_that_is_taken_is_refused():
    code = "import socket, subprocess, sys\nwith socket.socket() as taken:\n"
    code += "    taken.bind(('', 0))\n    taken.listen()\n"
    code += "    port = str(taken.getsockname()[1])\n"
    code += "    sys.exit(subprocess.call([sys.executable, 'cli.py', 'finetune', 'sentiment',"
    code += " '--num_processes', '2', '--main_process_port', port]))"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "is taken on this machine" in ended.stderr


def test_processes_share_the_cores(monkeypatch, capsys):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert launch.run(words("--num_processes", "2"), dry_run=True) == 0
    assert capsys.readouterr().out.startswith(
        "$ OMP_NUM_THREADS=4 python tools/torchrun.py --standalone"
    )


def test_a_slurm_script_runs_the_command_on_every_machine(tmp_path, monkeypatch):
    world, flags = launch.split(
        [*TWO, "--launcher", "zero2", "--slurm", str(tmp_path / "job.sh"), "--run_name", "it's"]
    )
    launch.write_slurm(RECIPE, flags, world)
    text = (tmp_path / "job.sh").read_text(encoding="utf-8")
    for line in (
        "--nodes=2",
        "--ntasks-per-node=1",
        "--gpus-per-node=2",
        "--signal=B:USR1@300",
        "--requeue",
    ):
        assert f"#SBATCH {line}\n" in text
    assert "@" not in text.replace("USR1@300", "")
    assert 'kill -USR1 "$training"' in text  # srun makes SIGKILL of SIGTERM
    # A cluster of this machine alone: srun runs its words as machine 0, and python prints what it
    # was to run.
    commands = {"scontrol": "echo localhost", "python": 'printf "%s|" "$@"'}
    commands["srun"] = '[ "$1" = --cpus-per-task=16 ] && shift 2 && SLURM_NODEID=0 exec "$@"'
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    slurm = {"SLURM_JOB_NODELIST": "a", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "16"}
    script = re.sub("if .*activate; fi\n", "", text)
    ended = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=os.environ | slurm, check=True
    )
    expected = "tools/torchrun.py --nnodes 2 --node_rank 0 --master_addr localhost".split()
    expected += ["--master_port", "20007", "--nproc_per_node", "2", "recipes/sentiment/run.py"]
    expected += ["--run_name", "it's", "--deepspeed", "zero2", "--num_processes", "4", ""]
    assert ended.stdout.split("|") == expected
    assert shutil.which("bash")


def test_a_dry_run_shows_the_script_and_writes_none(tmp_path, monkeypatch, capsys):
    """It goes to the folder of the one who called, whose paths the flags name."""
    monkeypatch.chdir(tmp_path)
    world, flags = launch.split([*TWO, "--slurm", "job.sh", "--train_file", "mine.csv"])
    launch.write_slurm(RECIPE, flags, world, dry_run=True)
    shown = capsys.readouterr().out
    assert f"cd {tmp_path} " in shown and f"{RECIPE} --train_file mine.csv" in shown
    assert not list(tmp_path.iterdir())


def test_the_help_names_launchers():
    help_sentence = launch.World.__dataclass_fields__["launcher"].metadata["help"]
    named = re.findall(r"\b(?:ddp|fsdp|zero)\w*", help_sentence)
    assert len(named) > 3 and {*named} <= launch.LAUNCHERS.keys()


def test_a_configuration_of_deepspeed_is_a_launcher_by_its_name_alone():
    assert [*launch.DEEPSPEED] == ["zero1", "zero2", "zero2_offload", "zero3", "zero3_offload"]
    assert launch.LAUNCHERS["zero2_offload"] == ["--deepspeed", "zero2_offload"]


@pytest.mark.parametrize(
    ("name", "suffix", "folder"),
    [
        ("mlm", "_pretrain", "mlm_pretrain"),
        ("clm_pretrain", "_pretrain", "clm_pretrain"),
        ("token-classification", "", "token_classification"),
        ("mlm-pretrain", "", "mlm_pretrain"),
    ],
)
def test_a_recipe_is_found_by_its_name(name, suffix, folder):
    assert launch.find(name, suffix).parent.name == folder
