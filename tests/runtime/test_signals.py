"""Stop signals end a run at once outside training, and at the next step within it.

A second signal ends the process.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT

from recipes.common.runtime import signals

IMPORT = f"sys.path.insert(0, {str(ROOT)!r}); from recipes.common.runtime import signals"
PROBE = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from recipes.common.runtime import guard, signals

def main():
    signals.listen()
    if sys.argv[2] == "outside":
        print("ready", flush=True)
        time.sleep(30)
    with signals.polled():
        print("ready", flush=True)
        while not signals.received():
            time.sleep(0.01)
        print("kept", flush=True)
        time.sleep(30 if sys.argv[2] == "deaf" else 0)

guard.run_and_exit(main)
"""


@pytest.fixture
def run(tmp_path):
    """Starts a process in this part of a run and sends it these signals, 1.2 seconds apart.

    Returns its exit code and what it said.
    """

    def start(part, *numbers):
        (tmp_path / "probe.py").write_text(PROBE, encoding="utf-8")
        words = [sys.executable, str(tmp_path / "probe.py"), str(ROOT), part]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        for number in numbers:
            process.send_signal(number)
            time.sleep(1.2 if len(numbers) > 1 else 0)
        began = time.time()
        out, err = process.communicate(timeout=20)
        assert time.time() - began < 5
        return process.returncode, out, err

    return start


@pytest.mark.parametrize("part", ["outside", "inside"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)]
)
def test_a_signal_stops_with_its_exit_code_and_one_line(part, number, code, run):
    found, out, err = run(part, number)
    assert found == code
    assert out == ("kept\n" if part == "inside" else "")
    assert f"stopped by {signal.Signals(number).name}: the same command continues" in err
    assert "Traceback" not in err


def test_a_second_signal_ends_at_once(run):
    assert run("deaf", signal.SIGTERM, signal.SIGTERM)[0] == 143


@pytest.mark.parametrize(
    ("alone", "code"), [("", -signal.SIGUSR1), ("signals.process_ends_with_run(); ", 0)]
)
def test_what_comes_after_the_run_is_no_reason_to_die(alone, code):
    """A complete run of two processes ended with -10.

    The signal came between the end of the run and the end of the process.
    """
    words = f"import sys, os; {IMPORT}; {alone}"
    words += f"signals.listen(); signals.leave(); os.kill(os.getpid(), {int(signal.SIGUSR1)})"
    assert subprocess.run([sys.executable, "-c", words], check=False, timeout=20).returncode == code


def test_a_child_process_ends_when_it_is_told_to():
    code = f"import sys, os, signal, time; {IMPORT}; signals.listen(); child = os.fork(); "
    code += "child or time.sleep(30); os.kill(child, signal.SIGINT); "
    code += "time.sleep(0.3); os.kill(child, signal.SIGTERM); sys.exit(os.waitpid(child, 0)[1])"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, timeout=20).returncode
        == signal.SIGTERM
    )
    assert os.name == "posix"


def test_a_loader_s_worker_keeps_sigterm_waiting_and_its_parent_does_not():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    worker = signals.workers().Process(target=time.sleep, args=(20,))
    worker.start()
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(0.3)
    assert worker.is_alive()
    worker.kill()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


STOPPED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
from recipes.common.runtime import guard, signals

left, parent = int(sys.argv[2]), os.getpid()

def trace(frame, event, argument):
    '''Sends SIGTERM to all processes of the run at a line that starts a loader's workers.'''
    global left
    file = frame.f_code.co_filename.split("/")[-1]
    if os.getpid() != parent or file not in ("dataloader.py", "process.py"):
        return None
    left -= event == "line"
    if left == 0:
        sys.settrace(None)
        os.killpg(0, signal.SIGTERM)
    return trace

def main():
    signals.listen()
    loader = torch.utils.data.DataLoader(
        [1, 2, 3, 4], num_workers=2, multiprocessing_context=signals.workers()
    )
    sys.settrace(trace)
    list(loader)
    sys.settrace(None)
    assert left > 0

guard.run_and_exit(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a loader's workers are torch's own elsewhere")
@pytest.mark.parametrize("line", [55, 64, 100, 112, 145, 181, 229, 280])
def test_a_run_that_is_stopped_while_its_workers_begin_ends_at_once(line):
    """It waited 5 seconds for each worker, or for ever.

    It also complained of attributes that torch's loader lacks.
    """
    words = [sys.executable, "-c", STOPPED, str(ROOT), str(line)]
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        _, said = process.communicate(timeout=20)
    assert process.returncode == 143
    assert said.strip() == "stopped by SIGTERM: the same command continues from the last checkpoint"
    deadline = time.time() + 5
    while [other for other in psutil.process_iter() if group_of(other) == process.pid]:
        assert time.time() < deadline
        time.sleep(0.05)


def group_of(process):
    try:
        return os.getpgid(process.pid) if is_alive(process.pid) else 0
    except ProcessLookupError:
        return 0


def test_a_signal_that_comes_while_an_object_is_removed_is_not_lost():
    """Python prints what is raised in `__del__`, and goes on."""
    script = f"import os, signal, sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
    script += "from recipes.common.runtime import guard, signals\n"
    script += "class Removed:\n    def __del__(self):\n"
    script += "        os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.01)\n"
    script += "def main():\n    signals.listen()\n    Removed()\n    time.sleep(10)\n"
    script += "guard.run_and_exit(main)"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=9
    )
    assert ended.returncode == 143
    assert (
        ended.stderr.strip()
        == "stopped by SIGTERM: the same command continues from the last checkpoint"
    )


def test_a_loader_s_worker_ends_with_its_parent():
    script = f"import os, sys, time; {IMPORT}\n"
    script += "worker = signals.workers().Process(target=time.sleep, args=(60,)); worker.start()\n"
    script += "print(worker.pid, flush=True); time.sleep(0.5); os.kill(os.getpid(), 9)"
    ended = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False
    )
    assert ended.returncode == -9
    deadline = time.time() + 5
    while is_alive(int(ended.stdout)):
        assert time.time() < deadline
        time.sleep(0.05)


def is_alive(number):
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_worker_whose_parent_has_ended_does_not_begin():
    worker = multiprocessing.get_context("fork").Process(
        target=signals._end_with, args=(os.getpid() + 1,)
    )
    worker.start()
    worker.join(5)
    assert worker.exitcode == 1
