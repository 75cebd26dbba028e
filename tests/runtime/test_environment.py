"""What the environment does to a run.

Variables are left over, folders may not be written, readers go away, processes are killed, and
disks fill.
"""

import errno
import inspect
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest
import torch.utils.cpp_extension as cpp_extension
from conftest import ROOT, SCRATCH, SHORT, load_recipe, merged

from recipes.common.runtime import compile_locks, disk_errors, environment, guard
from recipes.common.runtime.errors import Refusal

RUN = [
    sys.executable,
    str(ROOT / "recipes/sentiment/run.py"),
    *"--train_file train.csv --output_dir out".split(),
]
RUN += [*SCRATCH, *SHORT]
LAUNCHED = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def variables(monkeypatch):
    """An environment with these variables and no others of a launcher's; what is left of them."""
    names = (*environment.RANKS, *environment.ADDRESS, *environment.ENGINES)

    def settle(**values):
        for name in names:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        environment.settle()
        return {name: os.environ[name] for name in names if name in os.environ}

    return settle


LEFT_OVER = [
    {"RANK": "1"},
    {"LOCAL_RANK": "0"},
    {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"},
]
LEFT_OVER += [
    {"ACCELERATE_USE_DEEPSPEED": "true"},
    {"ACCELERATE_USE_FSDP": "true"},
    {"WORLD_SIZE": ""},
]


@pytest.mark.parametrize("values", LEFT_OVER, ids=map(str, LEFT_OVER))
def test_a_place_among_processes_that_nobody_started_is_passed_over(values, variables, capsys):
    assert variables(**values) == {}
    assert all(
        f"{name}={value}" in capsys.readouterr().err for name, value in list(values.items())[:1]
    )


@pytest.mark.parametrize(
    "values", [{}, LAUNCHED, LAUNCHED | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}]
)
def test_a_launchers_variables_stay(values, variables, capsys):
    assert variables(**values) == values
    assert capsys.readouterr().err == ""


HALF = {  # variables, words of the refusal
    "no address": ({"WORLD_SIZE": "2", "RANK": "0"}, "without MASTER_ADDR and MASTER_PORT"),
    "no rank": ({"WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "without RANK"),
    "a word": ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', not a number"),
    "a rank too high": (LAUNCHED | {"RANK": "2"}, "RANK is 2, but WORLD_SIZE is 2"),
    "no rank at all": (LAUNCHED | {"RANK": "x"}, "RANK is 'x', not a number"),
}


@pytest.mark.parametrize("case", HALF)
def test_half_of_a_launchers_variables_are_refused(case, variables):
    values, words = HALF[case]
    with pytest.raises(Refusal, match=words):
        variables(**values)


def start(words=RUN, **options):
    """A run as a process of its own."""
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(words, **piped)


def status(folder="out"):
    with open(f"{folder}/run.json", encoding="utf-8") as stream:
        return json.load(stream)["status"]


@pytest.mark.slow
def test_a_home_that_may_not_be_written_is_no_matter(reviews):
    """evaluate.Metric makes a folder below HF_HOME.

    A training ended with a traceback at its first evaluation.
    """
    home = os.environ | {
        "HOME": "/dev/null",
        "HF_HOME": "/dev/null/huggingface",
        "XDG_CACHE_HOME": "/dev/null/cache",
    }
    ended = start(env=home)
    _, said = ended.communicate(timeout=120)
    assert ended.returncode == 0, said
    assert status() == "complete"


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["stdout", "both"])
def test_a_training_goes_on_when_nobody_reads_its_output_any_more(reader, reviews):
    both = {"stderr": subprocess.STDOUT} if reader == "both" else {"stderr": subprocess.DEVNULL}
    running = start(**both)
    assert running.stdout.readline()
    running.stdout.close()
    assert running.wait(120) == 0
    assert status() == "complete"


def test_what_only_answers_ends_with_its_reader_and_without_a_word(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from recipes.common.runtime import guard\n"
    )
    code += "def main():\n    for number in range(10**7):\n        print(number)\n\n"
    code += "guard.run_and_exit(main, outlives_reader=False)"
    running = start([sys.executable, "-c", code])
    assert running.stdout.readline() == "0\n"
    running.stdout.close()
    assert running.wait(20) == 0
    assert running.stderr.read() == ""


@pytest.mark.slow
def test_a_terminal_of_few_letters_gets_what_it_can_show(reviews):
    rows = (reviews / "train.csv").read_text(encoding="utf-8").replace("positive", "好")
    (reviews / "好.csv").write_text(rows, encoding="utf-8")
    narrow = {
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    ended = start(
        ["好.csv" if word == "train.csv" else word for word in RUN], env=os.environ | narrow
    )
    _, said = ended.communicate(timeout=120)
    assert ended.returncode == 0, said


def ends(error, capsys):
    """The exit code of a run that ends with an error, and the message."""
    with pytest.raises(SystemExit) as ended:
        guard.run_and_exit(lambda: (_ for _ in ()).throw(error))
    return ended.value.code, capsys.readouterr().err


WORKER = "DataLoader worker (pid 7) is killed by signal: "
NOT_BUGS = {  # an error, its exit code, words of the message
    "a loader's worker": (RuntimeError(f"{WORKER}Killed."), 1, "--dataloader_num_workers"),
    "workers": (
        RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
        1,
        "--dataloader_num_workers",
    ),
    "shared memory": (RuntimeError(f"{WORKER}Bus error. It is possible that …"), 1, "--shm-size"),
    "a tokenising worker": (
        RuntimeError("One of the subprocesses has abruptly died during map operation."),
        1,
        "--preprocessing_num_workers",
    ),
    "memory": (MemoryError(), 1, "too little memory"),
    "torch's memory": (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        1,
        "too little memory",
    ),
    "numpy on a full disk": (
        OSError("262144 requested and 12288 written"),
        74,
        "No space left on device",
    ),
    "a folder": (PermissionError(errno.EACCES, "Permission denied", "/srv/x"), 2, "where: /srv/x"),
    "a name of 5,000 letters": (
        OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000),
        2,
        "xxx…",
    ),
    "a circle of links": (
        OSError(errno.ELOOP, "Too many levels of symbolic links", "a/b"),
        2,
        "where: a/b",
    ),
    "a path with a zero byte": (ValueError("embedded null byte"), 2, "embedded null byte"),
    "no folder for temporary files": (
        FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"),
        2,
        "/tmp",
    ),
}


@pytest.mark.parametrize("case", NOT_BUGS)
def test_what_the_machine_did_is_no_bug_of_the_recipe(case, capsys, monkeypatch):
    monkeypatch.setattr(guard.signals, "_ends_with_run", False)
    error, code, words = NOT_BUGS[case]
    found, said = ends(error, capsys)
    assert found == code
    assert words in said and len(said.splitlines()) == 3


def test_an_error_within_a_worker_is_a_bug_all_the_same(capsys, monkeypatch):
    monkeypatch.setattr(guard.signals, "_ends_with_run", False)
    assert ends(KeyError("Caught KeyError in DataLoader worker process 0."), capsys)[0] == 70


def test_a_full_disk_is_known_although_tidying_up_fails_too():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise ValueError("I/O operation on closed file")  # as pyarrow's writer says
    except ValueError as error:
        assert disk_errors.disk_error(error) == "No space left on device"


@pytest.mark.slow
@pytest.mark.parametrize("by_nohup", [False, True])
def test_a_closed_terminal_stops_a_run_as_sigterm_does_and_nohup_does_not(by_nohup, reviews):
    ignored = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN) if by_nohup else None
    running = start([word if word != "2" else "4000" for word in RUN], preexec_fn=ignored)
    deadline = time.time() + 60
    while not os.path.exists("out/run.yaml") and time.time() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    running.send_signal(signal.SIGHUP)
    if by_nohup:
        time.sleep(1)
        assert running.poll() is None
        running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 143, said
    assert f"stopped by {'SIGTERM' if by_nohup else 'SIGHUP'}" in said
    assert any(name.startswith("checkpoint-") for name in os.listdir("out"))


@pytest.fixture
def folder(tmp_path):
    """An extension's folder in torch's cache, with a lock in it; `age` makes both old."""

    def build(content="", age=0):
        (tmp_path / "an_operator").mkdir()
        (tmp_path / "an_operator/lock").write_text(content)
        past = time.time() - age
        os.utime(tmp_path / "an_operator/lock", (past, past))
        return tmp_path / "an_operator/lock"

    return build


def named(number, created):
    return f"{socket.gethostname()} {number} {created}"


def test_a_lock_whose_owner_is_gone_is_taken_over(folder, capsys):
    ended = subprocess.Popen(["true"])
    ended.wait()
    lock = compile_locks.Lock(str(folder(named(ended.pid, 1.0))))
    assert lock.try_acquire()
    said = capsys.readouterr().err
    assert "left by a process that is gone" in said and "compiling an_operator" in said
    lock.release()
    assert not os.path.exists(lock.lock_file_path)


@pytest.mark.parametrize(("age", "gone"), [(1, False), (400, True)])
def test_a_lock_without_a_name_is_taken_over_when_nothing_has_happened_for_minutes(
    age, gone, folder
):
    assert compile_locks.owner_is_gone(folder(age=age)) == gone


def test_a_lock_that_a_process_holds_open_is_not_taken_over(folder):
    path = folder(age=400)
    with path.open() as stream:
        assert stream and not compile_locks.owner_is_gone(path)


def test_a_lock_of_a_living_process_is_waited_for_and_that_is_said(folder, capsys):
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    path = folder(named(owner.pid, psutil.Process(owner.pid).create_time()))
    remover = subprocess.Popen(["sh", "-c", f"sleep 0.5; rm {path}"])
    assert not compile_locks.Lock(str(path)).try_acquire()  # the other one has compiled
    assert "waiting for another process that compiles an_operator" in capsys.readouterr().err
    owner.kill()
    owner.wait()
    remover.wait()


def test_torch_compiles_under_this_lock_and_still_calls_it_so(monkeypatch):
    monkeypatch.setattr(cpp_extension, "FileBaton", cpp_extension.FileBaton)
    compile_locks.watch()
    assert cpp_extension.FileBaton is compile_locks.Lock
    assert "FileBaton(os.path.join(build_directory, 'lock'))" in inspect.getsource(
        cpp_extension._jit_compile
    )


@pytest.mark.slow
def test_a_disk_that_fills_while_tokens_are_packed_is_a_full_disk(reviews):
    """numpy's tofile raises an error without a number."""
    (reviews / "text.txt").write_text(
        "the soup was good and the film was bad\n" * 20_000, encoding="utf-8"
    )
    words = [sys.executable, str(ROOT / "recipes/clm_pretrain/run.py"), "--train_file", "text.txt"]
    words += (
        "--output_dir out --model_type gpt2 --config_overrides n_embd=16,n_layer=1,n_head=2"
    ).split()
    words += ["--vocab_size", "300", "--block_size", "16", "--max_steps", "2"]
    ended = start(
        words, preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100_000, 100_000))
    )
    _, said = ended.communicate(timeout=120)
    assert ended.returncode == 74, said
    assert "Traceback" not in said


PATHS = (
    "--train_file --output_dir --model_name_or_path --tokenizer_name --config --deepspeed"
).split()
PATHS += ["--prepared_dir", "--resume_from_checkpoint", "--config_name"]


@pytest.mark.parametrize("flag", PATHS)
def test_a_path_that_no_file_system_can_have_is_refused(flag, reviews):
    """Also where a library looks first whether there is such a file."""
    with pytest.raises((Refusal, OSError)) as ended:
        load_recipe("sentiment").main(merged(*RUN[2:], flag, "x" * 5000))
    error = ended.value
    assert isinstance(error if isinstance(error, Refusal) else guard._not_a_bug(error), Refusal)
