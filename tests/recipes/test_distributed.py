"""Real engines on two processes: the curve, the scores and the saved model are those of one process."""

import json
import os
import shutil
import subprocess
import sys
import time
from functools import partial

import psutil
import pytest
import torch
from conftest import ROOT, load_recipe, merged, predictions, row
from safetensors import safe_open
from test_processes import torchrun

from tools import equivalence

pytestmark = pytest.mark.slow
ENGINES = {"ddp": [], "zero3": ["--deepspeed", "zero3"], "fsdp2": ["--fsdp"]}
SCRATCH = {
    name: [*words, *equivalence.SAMPLING.get(name, [])]
    for name, words in equivalence.MODELS.items()
}
FILES = {name: ["--validation_file", f"{name}.jsonl"] for name in equivalence.MODELS}
FILES["translation"] += ["--source_lang", "en", "--target_lang", "de"]
RUN = "--bf16 false --eval_strategy no --save_strategy no --load_best_model_at_end false".split()
TRANSLATION = str(ROOT / "recipes/translation/run.py")
RUN += ["--vocab_size", "400", "--learning_rate", "1e-2", "--per_device_eval_batch_size", "7"]


@pytest.fixture
def files(in_tmp_path):
    """A file of 101 rows for every recipe: 101 is no multiple of two processes or of a batch of 7."""
    for recipe in FILES:
        lines = [json.dumps(row(recipe, number)) + "\n" for number in range(101)]
        (in_tmp_path / f"{recipe}.jsonl").write_text("".join(lines), encoding="utf-8")
    return in_tmp_path


def train(recipe, *flags):
    """Four steps in this process."""
    files = ["--train_file", f"{recipe}.jsonl", *FILES[recipe], "--max_steps", "4"]
    load_recipe(recipe).main([*files, *SCRATCH[recipe], *RUN, *flags])


def on_two(recipe, *flags, folder):
    script = str(ROOT / f"recipes/{recipe}/run.py")
    ended = torchrun(script, *FILES[recipe], *RUN, *flags, "--num_processes", "2", folder=folder)
    assert ended.returncode == 0, ended.stderr[-3000:]


def scores(folder):
    found = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
    timing = ("runtime", "per_second", "preparation_time")
    return {
        name: value
        for name, value in found.items()
        if name.startswith("eval_") and not name.endswith(timing)
    }


@pytest.mark.parametrize("recipe", FILES)
def test_scores_do_not_depend_on_the_number_of_processes(recipe, files):
    train(recipe, "--do_train", "--output_dir", "model")
    flags = ["--model_name_or_path", "model", "--do_eval", "--train_file", f"{recipe}.jsonl"]
    load_recipe(recipe).main([*FILES[recipe], *RUN, *flags, "--output_dir", "one"])
    on_two(recipe, *flags, "--output_dir", "two", folder=files)
    one, two = scores(files / "one"), scores(files / "two")
    assert len(one) >= 5
    assert two == pytest.approx(one, rel=1e-6)
    assert len(predictions("one")) == len(predictions("two"))
    for first, second in zip(predictions("one"), predictions("two"), strict=True):
        assert first | {"loss": 0, "scores": 0} == second | {"loss": 0, "scores": 0}


def test_predictions_that_there_is_no_test_data_for_are_made_by_no_process(files):
    flags = ["--train_file", "sentiment.jsonl", "--do_train", "--do_predict", "--max_steps", "1"]
    on_two("sentiment", *flags, *SCRATCH["sentiment"], "--output_dir", "trained", folder=files)
    assert (files / "trained/train_results.json").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_saved_model_is_whole_and_answers_as_it_did_in_training(engine, files):
    flags = "--train_file sentiment.jsonl --test_file sentiment.jsonl --max_steps 4".split()
    on_two(
        "sentiment",
        *flags,
        *SCRATCH["sentiment"],
        *ENGINES[engine],
        "--output_dir",
        "out",
        folder=files,
    )
    with safe_open(files / "out/model.safetensors", "pt") as weights:
        names = list(weights.keys())
        assert names
        assert all(weights.get_tensor(name).numel() for name in names)
    compare_with_reloaded("out")


@pytest.mark.parametrize("engine", ENGINES)
def test_saved_adapters_are_whole(engine, files):
    train("sentiment", "--do_train", "--output_dir", "base")
    flags = "--train_file sentiment.jsonl --test_file sentiment.jsonl --max_steps 4".split()
    flags += ["--model_name_or_path", "base", "--lora_rank", "2", "--output_dir", "out"]
    on_two("sentiment", *flags, *ENGINES[engine], folder=files)
    compare_with_reloaded("out")


def compare_with_reloaded(folder):
    """The probabilities that the training processes wrote are those of the reloaded model, to 1e-5."""
    from recipes.common.predict.opening import open_folder

    rows = predictions(folder)
    answers = list(open_folder(folder).answers([row["text"] for row in rows], 32))
    assert len(rows) == 101
    for found, written in zip(answers, rows, strict=True):
        assert found["scores"] == pytest.approx(written["scores"], abs=1e-5)


def test_a_model_that_is_shared_out_trains_in_bf16_as_whole_copies_do(files):
    curves = []
    for engine in ("ddp", "fsdp2"):
        flags = merged(
            "--train_file",
            "translation.jsonl",
            *FILES["translation"],
            *SCRATCH["translation"],
            *RUN,
        )
        flags = merged(
            *flags, "--bf16", "true", "--do_train", "--max_steps", "4", "--logging_steps", "1"
        )
        ended = torchrun(
            TRANSLATION, *flags, *ENGINES[engine], "--output_dir", engine, folder=files
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        curves.append(equivalence.read(files / engine))
    assert len(curves[0]) == 4
    assert equivalence.difference(*curves) < 0.05
    names = []
    for engine in ("ddp", "fsdp2"):
        with safe_open(files / engine / "model.safetensors", "pt") as weights:
            names.append({*weights.keys()})
    assert "shared.weight" in names[0]
    assert names[1] == names[0]  # T5's embeddings once, not four times


def test_gradient_checkpointing_and_compile_leave_the_curve_as_it_is(files):
    for name, flags in {
        "plain": [],
        "again": ["--gradient_checkpointing"],
        "compiled": ["--torch_compile"],
    }.items():
        train("clm_pretrain", "--do_train", "--logging_steps", "1", "--output_dir", name, *flags)
        torch._dynamo.reset()
    curves = [json.loads((files / name / "trainer_state.json").read_text("utf-8"))["log_history"] for name in
              ("plain", "again", "compiled")]  # fmt: skip
    losses = [[log["loss"] for log in curve if "loss" in log] for curve in curves]
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[2] == pytest.approx(losses[0], abs=1e-4)


def test_texts_of_all_lengths_are_compiled_once(files, monkeypatch):
    monkeypatch.setattr(torch._dynamo.config, "error_on_recompile", True)
    monkeypatch.setenv("ACCELERATE_DYNAMO_USE_DYNAMIC", "")  # so that it is as it was afterwards
    monkeypatch.delenv("ACCELERATE_DYNAMO_USE_DYNAMIC")
    torch._dynamo.reset()
    lengths = [
        len(json.loads(line)["text"])
        for line in (files / "sentiment.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(set(lengths)) > 4
    train("sentiment", "--do_train", "--output_dir", "out", "--torch_compile")
    torch._dynamo.reset()


@pytest.fixture
def hosts():
    """Two hosts: network namespaces of their own, joined by a cable; the words that run a command in each."""
    ip = shutil.which("ip")
    if (
        os.geteuid()
        or not ip
        or subprocess.run([ip, "netns", "add", "host0"], check=False).returncode
    ):
        pytest.skip("network namespaces need iproute2 and root")
    commands = ["netns add host1", "link add eth0 netns host0 type veth peer name eth1 netns host1"]
    for host in "01":
        commands += [
            f"-n host{host} addr add 10.77.0.{int(host) + 1}/24 dev eth{host}",
            f"-n host{host} link set lo up",
        ]
        commands += [f"-n host{host} link set eth{host} up"]
    try:
        for command in commands:
            subprocess.run([ip, *command.split()], check=True)
        yield [
            [ip, "netns", "exec", f"host{host}", "env", f"GLOO_SOCKET_IFNAME=eth{host}"]
            for host in "01"
        ]
    finally:
        for host in "01":
            subprocess.run([ip, "netns", "del", f"host{host}"], check=False)


@pytest.mark.parametrize("launcher", ["ddp", "zero2"])
def test_two_hosts_train_as_one(launcher, hosts, files):
    flags = [
        "--train_file",
        "sentiment.jsonl",
        *FILES["sentiment"],
        *SCRATCH["sentiment"],
        *RUN,
        "--max_steps",
        "8",
    ]
    flags += ["--logging_steps", "1", "--do_train"]
    load_recipe("sentiment").main(
        [*flags, "--per_device_train_batch_size", "16", "--output_dir", "one"]
    )
    flags += ["--per_device_train_batch_size", "8", "--output_dir", "two", "--launcher", launcher]
    flags += ["--num_processes", "2", "--num_machines", "2", "--main_process_ip", "10.77.0.1"]
    command = [
        sys.executable,
        str(ROOT / "cli.py"),
        "finetune",
        "sentiment",
        *flags,
        "--machine_rank",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([*host, *command, str(rank)], cwd=files, env=environment)
        for rank, host in enumerate(hosts)
    ]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    curves = [equivalence.read(files / name) for name in ("one", "two")]
    assert len(curves[0]) == 8
    assert equivalence.difference(*curves) < equivalence.TOLERANCE


@pytest.mark.parametrize("recipe", ["clm_pretrain", "sentiment"])
def test_a_stream_trains_as_on_one_process(recipe, files):
    flags = [
        "--train_file",
        f"{recipe}.jsonl",
        *FILES[recipe],
        *SCRATCH[recipe],
        *RUN,
        "--streaming",
        "--do_train",
    ]
    flags += ["--max_steps", "14", "--logging_steps", "1"]
    load_recipe(recipe).main([*flags, "--per_device_train_batch_size", "16", "--output_dir", "one"])
    flags += (
        "--per_device_train_batch_size 4 --gradient_accumulation_steps 2 --num_processes 2"
    ).split()
    ended = torchrun(
        str(ROOT / f"recipes/{recipe}/run.py"), *flags, "--output_dir", "two", folder=files
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    curves = [equivalence.read(files / name) for name in ("one", "two")]
    assert len(curves[0]) == 14
    assert equivalence.difference(*curves) < equivalence.TOLERANCE


@pytest.mark.parametrize("recipe", ["translation", "sentiment"])
def test_batches_of_so_many_tokens_train_as_on_one_process(recipe, files):
    flags = ["--train_file", f"{recipe}.jsonl", *SCRATCH[recipe], "--do_train", "--max_steps", "14"]
    flags += ["--logging_steps", "1", "--tokens_per_batch", "120"]
    accumulated = ["--gradient_accumulation_steps", "2", "--output_dir", "one"]
    load_recipe(recipe).main([*FILES[recipe], *RUN, *flags, *accumulated])
    on_two(recipe, *flags, "--output_dir", "two", folder=files)
    curves = [equivalence.read(files / name) for name in ("one", "two")]
    assert len(curves[0]) == 14
    assert equivalence.difference(*curves) < equivalence.TOLERANCE


@pytest.mark.parametrize("launcher", ["ddp", "zero2", "fsdp2"])
def test_one_process_that_is_stopped_stops_all_and_the_run_goes_on_as_if_nothing_had_been(
    launcher, files
):
    flags = [
        "--train_file",
        "sentiment.jsonl",
        *FILES["sentiment"],
        *SCRATCH["sentiment"],
        *RUN,
        "--max_steps",
        "60",
    ]
    flags += (
        "--per_device_train_batch_size 2 --gradient_accumulation_steps 2 --logging_steps 1"
    ).split()
    flags = merged(*flags, "--save_strategy", "steps", "--save_steps", "10", "--num_processes", "2")
    command = [
        sys.executable,
        str(ROOT / "cli.py"),
        "finetune",
        "sentiment",
        *flags,
        "--launcher",
        launcher,
    ]
    run = partial(subprocess.run, cwd=files, capture_output=True, text=True, check=False)
    assert run([*command, "--output_dir", "whole"]).returncode == 0
    running = subprocess.Popen(
        [*command, "--output_dir", "out"], cwd=files, stderr=subprocess.PIPE, text=True
    )
    while not (files / "out/checkpoint-10").exists():
        assert running.poll() is None
        time.sleep(0.05)
    launcher_process = psutil.Process(running.pid)
    launcher_process.children()[1].terminate()
    _, said = running.communicate(timeout=60)
    assert running.returncode == 143
    assert "stopped by SIGTERM after step" in said
    assert not (files / "out/model.safetensors").exists()
    resumed = run([*command, "--output_dir", "out"])
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert "resuming from out/checkpoint-" in resumed.stderr
    curves = [equivalence.read(files / name) for name in ("whole", "out")]
    assert len(curves[0]) == 60
    assert curves[0] == curves[1]
    assert (files / "whole/model.safetensors").read_bytes() == (
        files / "out/model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("recipe", equivalence.MODELS)
def test_one_curve_under_every_engine(recipe, tmp_path):
    """The split that is furthest from one process under every engine, and every split under torchrun; the whole table
    is `python tools/equivalence.py`."""
    reference = equivalence.curve(recipe, "python", equivalence.SPLITS[0], tmp_path / "reference")
    assert len(reference) == 8
    assert all(norm > equivalence.CLIPPED_AT for _, norm in reference)
    assert max(equivalence.distances(recipe, "python", reference, tmp_path)) < equivalence.TOLERANCE
    for engine in equivalence.ENGINES[1:]:
        found = equivalence.curve(recipe, engine, equivalence.SPLITS[-1], tmp_path / engine)
        assert equivalence.difference(found, reference) < equivalence.TOLERANCE, engine
