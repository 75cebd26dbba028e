"""Two real processes: as many as were asked for, data prepared once a node, equal models."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT, SCRATCH, SHORT

from recipes.common.runtime import joining, processes
from recipes.common.runtime.errors import Refusal

PROBE = """
import atexit, json, os, sys
sys.path.insert(0, sys.argv[1])
import datasets, numpy, torch, transformers
from recipes.common.runtime import joining, processes
from recipes.common.runtime.errors import Refusal

def refusal(function, *arguments):
    try:
        function(*arguments)
    except Refusal as refusal:
        return str(refusal)

@processes.once_per_node
def prepare(size):
    with open("calls", "a") as stream:
        stream.write(os.environ["RANK"])
    return {"ids": numpy.arange(size), "empty": numpy.array([]), "rows": datasets.Dataset.from_dict({"a": [1, 2]})}

@atexit.register  # before join's, that is, run after it
def note_whether_left():
    open("left" + os.environ["RANK"], "w").write(str(not torch.distributed.is_initialized()))

training_arguments = transformers.TrainingArguments("out", use_cpu=True)
facts = {"asked 3": refusal(joining.join, training_arguments, 3)}
joining.join(training_arguments, 2)
prepared = prepare(1000)
facts["sum"] = int(prepared["ids"].sum())
facts["rows"] = prepared["rows"]["a"][:]
facts["ranks"] = processes.exchange(processes.rank())
torch.manual_seed(0)
model = torch.nn.Linear(3, 2)
facts["equal"] = refusal(processes.check_equal, model)
with torch.no_grad():
    model.bias += processes.rank()
facts["different"] = refusal(processes.check_equal, model)
json.dump(facts, open(f"facts{processes.rank()}.json", "w"))
"""


def torchrun(*words, folder, processes=2):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        str(processes),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *words], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """What each of two processes saw."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "probe.py").write_text(PROBE, encoding="utf-8")
    ended = torchrun("probe.py", str(ROOT), folder=folder)
    assert ended.returncode == 0, ended.stderr
    seen = [
        json.loads((folder / f"facts{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)
    ]
    texts = {
        name: (folder / name).read_text(encoding="utf-8") for name in ("calls", "left0", "left1")
    }
    return seen, texts


def test_the_world_has_the_size_that_was_asked_for(facts):
    for seen in facts[0]:
        assert "asked for 3 processes, got 2" in seen["asked 3"]
        assert seen["ranks"] == [0, 1]


def test_one_process_prepares_and_both_get_the_result(facts):
    seen, texts = facts
    assert texts["calls"] == "0"
    assert [(one["sum"], one["rows"]) for one in seen] == [(499500, [1, 2])] * 2


def test_models_that_differ_are_refused_by_the_parameter(facts):
    for seen in facts[0]:
        assert seen["equal"] is None
        assert "the models of processes 0 and 1 differ" in seen["different"]
        assert "where: bias" in seen["different"]


def test_processes_leave_each_other_before_the_interpreter_ends(facts):
    assert facts[1]["left0"] == facts[1]["left1"] == "True"


def test_one_process_needs_nobody():
    assert processes.exchange("a") == ["a"]
    assert processes.rank() == 0


@pytest.mark.parametrize("variable", joining.MPI_SIZES)
def test_a_lone_process_of_several_is_refused(variable, monkeypatch):
    monkeypatch.setenv(variable, "2")
    arguments = type("Arguments", (), {"n_gpu": 0, "world_size": 1, "deepspeed": None})
    with pytest.raises(Refusal, match="asked for 2 processes, got 1"):
        joining.join(arguments, None)


def test_accelerate_on_a_cpu_that_starts_one_process_instead_of_two_is_refused(reviews):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    flags = ["--train_file", "train.csv", "--output_dir", "out", *SCRATCH, *SHORT]
    words = [*command, str(ROOT / "recipes/sentiment/run.py"), *flags]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "error: asked for 2 processes, got 1\n" in ended.stderr
    assert not (reviews / "out").exists()


def test_what_is_wrong_in_every_process_is_said_once_and_at_once(reviews):
    flags = ["--train_file", "absent.csv", "--output_dir", "out", *SCRATCH, *SHORT]
    ended = torchrun(str(ROOT / "recipes/sentiment/run.py"), *flags, folder=reviews)
    assert ended.returncode != 0
    assert ended.stderr.count("error: ") == 1
    assert "absent.csv" in ended.stderr


def test_a_refusal_on_two_processes_ends_as_on_one(reviews):
    flags = [
        *"--train_file absent.csv --output_dir out".split(),
        *SCRATCH,
        *SHORT,
        "--num_processes",
        "2",
    ]
    command = [sys.executable, str(ROOT / "cli.py"), "finetune", "sentiment", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 3
    assert "absent.csv" in ended.stderr


def test_a_process_that_is_killed_is_named(tmp_path):
    (tmp_path / "run.py").write_text(
        "import os, time\nos.kill(os.getpid(), 9) if os.environ['RANK'] == '1' else time.sleep(60)"
    )
    command = [
        sys.executable,
        str(ROOT / "tools/torchrun.py"),
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    ended = subprocess.run(
        [*command, str(tmp_path / "run.py")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[0] == "error: process 1 was killed by SIGKILL"


def test_two_processes_print_and_write_once(reviews):
    flags = [
        *"--train_file train.csv --test_file test.csv --output_dir out".split(),
        *SCRATCH,
        *SHORT,
    ]
    ended = torchrun(
        str(ROOT / "recipes/sentiment/run.py"), *flags, "--num_processes", "2", folder=reviews
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("report ") == 1
    assert json.loads((reviews / "out/run.json").read_text(encoding="utf-8"))["world_size"] == 2
    assert len((reviews / "out/predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 8
    again = torchrun(
        str(ROOT / "recipes/sentiment/run.py"), *flags, "--num_processes", "2", folder=reviews
    )
    assert again.returncode == 0
    assert again.stderr.count("already complete") == 1


@pytest.mark.parametrize(
    "words", ["Application timeout caused pair closure", "[gloo/transport/tcp] closed", "other"]
)
def test_an_error_of_a_collective_is_known_from_others(words):
    assert processes.lost_another(RuntimeError(words)) == (words != "other")


@pytest.mark.parametrize(
    "words", ["--num_processes 4", "--num-processes 4", "--num_processes=4", "--num-processes=4"]
)
def test_a_flag_is_read_however_it_is_written(words):
    assert joining._flag(["accelerate", "launch", "--cpu", *words.split()], "num_processes") == "4"
    assert joining._flag(["accelerate", "launch"], "num_processes") == ""
