"""A recipe's `main` in a program that continues after a run.

It may be a notebook or a thread of Gradio or Ray, and it may start a second run with other flags.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings

import datasets
import pytest
import torch
import transformers
from conftest import SCRATCH, SHORT, load_recipe

from recipes.common.report import run_record
from recipes.common.runtime import process_state, signals
from recipes.common.runtime.errors import Refusal

TRY_TO_LOCK = (
    "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
)
UNCOMPARED = ("runtime", "per_second", "preparation_time", "flos")


def flags(folder, *more):
    return [
        *"--train_file train.csv --validation_file test.csv".split(),
        "--output_dir",
        folder,
        *SCRATCH,
        *SHORT,
        *more,
    ]


def numbers(metrics):
    """The metrics without what depends on time."""
    return {name: value for name, value in metrics.items() if not name.endswith(UNCOMPARED)}


def state():
    """What a run may change in its process."""
    levels = [library.utils.logging.get_verbosity() for library in (transformers, datasets)]
    bars = (
        transformers.utils.logging.is_progress_bar_enabled(),
        datasets.are_progress_bars_disabled(),
    )
    exact = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    handlers = [signal.getsignal(number) for number in signals.SIGNALS]
    patched = [torch.nn.functional.dropout, torch.nn.functional.scaled_dot_product_attention]
    precision = torch.get_default_dtype(), torch.backends.fp32_precision, torch.is_grad_enabled()
    return (
        dict(os.environ),
        list(warnings.filters),
        levels,
        bars,
        exact,
        handlers,
        patched,
        precision,
    )


@pytest.fixture
def as_others_left_it():
    """The process of a program with settings of its own, which it gets back at the end."""

    def own(number, frame):
        raise AssertionError("the program's own handler")

    before = signal.signal(signal.SIGTERM, own), transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity(logging.INFO)
    transformers.utils.logging.enable_progress_bar()
    datasets.enable_progress_bars()
    yield own
    signal.signal(signal.SIGTERM, before[0])
    transformers.utils.logging.set_verbosity(before[1])


def in_thread(work):
    """What the work returns, or the error that it raises, in a thread of its own."""
    found = {}

    def run():
        try:
            found["result"] = work()
        except BaseException as error:
            found["error"] = error

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if "error" in found:
        raise found["error"]
    return found["result"]


def test_a_run_in_a_thread_is_that_of_the_main_thread(sentiment, reviews, as_others_left_it):
    found = in_thread(lambda: sentiment.main(flags("thread")))
    assert found["eval_accuracy"] >= 0
    assert numbers(found) == numbers(sentiment.main(flags("main")))
    assert signal.getsignal(signal.SIGTERM) is as_others_left_it


def test_a_complete_run_returns_its_metrics_again(sentiment, reviews, capsys):
    first = sentiment.main(flags("out"))
    assert first["eval_accuracy"] >= 0 and first["train_loss"] > 0
    assert sentiment.main(flags("out")) == first
    assert "already complete" in capsys.readouterr().err
    assert in_thread(lambda: sentiment.main(flags("out"))) == first


def test_a_copy_whose_main_is_as_it_was_ends_with_the_exit_code_0(sentiment, reviews):
    first = sentiment.main(flags("out"))
    with pytest.raises(SystemExit) as ended:
        sentiment.main.__wrapped__(flags("out"))
    assert (ended.value.code, ended.value.metrics) == (0, first)


def test_help_ends_nothing_but_itself(sentiment, capsys):
    assert sentiment.main(["--help"]) == {}
    assert "--train_file" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more",
    [[], ["--bf16", "true", "--full_determinism", "true", "--tf32", "false"], ["--no_such_flag"]],
    ids=str,
)
def test_the_process_is_as_it_was_when_a_run_is_over(more, sentiment, reviews, as_others_left_it):
    before = state()
    try:
        sentiment.main(flags("out", *more))
    except Refusal:
        assert "--no_such_flag" in more
    for one, other in zip(state(), before, strict=True):
        assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["clm_pretrain", "mlm_pretrain", "summarization", "translation"])
def test_every_recipe_leaves_the_process_as_it_was(recipe, in_tmp_path, as_others_left_it):
    from forked import Case

    main = load_recipe(recipe).main  # what an import sets is not the run's
    before, flags = state(), Case(recipe).flags(in_tmp_path, in_tmp_path / "out")
    first = main(flags)
    for one, other in zip(state(), before, strict=True):
        assert one == other
    assert main(flags) == first


def test_a_run_that_was_stopped_leaves_the_process_as_it_was(
    sentiment, reviews, monkeypatch, as_others_left_it
):
    step = torch.optim.AdamW.step

    def stop(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments, **options)

    before = state()
    with monkeypatch.context() as patch, pytest.raises(signals.Stopped):
        patch.setattr(torch.optim.AdamW, "step", stop)
        sentiment.main(flags("out", "--optim", "adamw_torch"))
    for one, other in zip(state(), before, strict=True):
        assert one == other
    assert (
        sentiment.main(flags("out", "--optim", "adamw_torch"))["epoch"] > 0
    )  # in the same process


def test_what_one_run_was_told_is_nothing_to_the_next(sentiment, reviews):
    first = numbers(sentiment.main(flags("first")))
    other = "--bf16 true --seed 7 --full_determinism true --learning_rate 1e-2".split()
    other += ["--gradient_accumulation_steps", "2", "--log_level", "info"]
    changed = numbers(sentiment.main(flags("other", *other)))
    assert changed != first
    assert numbers(sentiment.main(flags("again"))) == first


def test_a_second_run_at_the_same_time_is_refused(sentiment, reviews):
    entered, leave = threading.Event(), threading.Event()

    def first():
        with process_state.kept():
            entered.set()
            leave.wait(20)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(20)
    try:
        with pytest.raises(Refusal, match="another run is active in this process"):
            sentiment.main(flags("out"))
    finally:
        leave.set()
        thread.join()
    assert sentiment.main(["--help"]) == {}


@pytest.mark.skipif(run_record.fcntl is None, reason="no locks of this kind")
def test_the_folder_is_free_for_other_processes_when_a_run_is_over(sentiment, reviews):
    sentiment.main(flags("out"))
    subprocess.run([sys.executable, "-c", TRY_TO_LOCK, "out/.lock"], check=True)


def test_a_kernel_s_own_words_are_no_flags(sentiment, reviews, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/lib/ipykernel_launcher.py", "-f", "/run/kernel-1.json"])
    assert process_state.command_line() == []
    monkeypatch.setattr(sys, "argv", ["run.py", *flags("out")])
    assert process_state.command_line() == flags("out")
    assert sentiment.main()["epoch"] > 0
    record = json.loads((reviews / "out/run.json").read_text(encoding="utf-8"))
    assert record["command"].endswith(" ".join(flags("out")))
