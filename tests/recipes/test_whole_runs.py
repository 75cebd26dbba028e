"""A run in its folder: resumed, complete, refused with the difference, or begun anew."""

import json
import resource
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, SCRATCH, SHORT, as_if_killed, merged

from recipes.common.checkpoints import retention
from recipes.common.report import model_card, run_identity, run_record
from recipes.common.report.run_identity import Run
from recipes.common.runtime import signals
from recipes.common.runtime.disk_errors import FREE_SPACE
from recipes.common.runtime.errors import DiskFull, Refusal
from recipes.common.runtime.hashing import content_hash

FLAGS = ["--train_file", "train.csv", "--test_file", "test.csv", "--output_dir", "out", *SCRATCH]


def test_the_same_command_again_says_complete_and_changes_nothing(sentiment, reviews, capsys):
    metrics = sentiment.main([*FLAGS, *SHORT])
    before = {path: path.stat().st_mtime_ns for path in (reviews / "out").rglob("*")}
    capsys.readouterr()
    assert sentiment.main([*FLAGS, *SHORT]) == metrics
    printed = capsys.readouterr()
    assert "already complete" in printed.err
    assert "accuracy" in printed.out
    assert {path: path.stat().st_mtime_ns for path in (reviews / "out").rglob("*")} == before


def test_the_same_command_on_other_data_is_refused(sentiment, reviews):
    """It said "already complete", with the scores of the data as they had been."""
    sentiment.main([*FLAGS, *SHORT])
    with (reviews / "train.csv").open("a", encoding="utf-8") as stream:
        stream.write("one more,positive\n")
    with pytest.raises(Refusal, match="a complete run on other data: train.csv has changed since"):
        sentiment.main([*FLAGS, *SHORT])


@pytest.mark.parametrize("named", ["parts/*.csv", "parts", "parts/"])
def test_the_same_command_with_a_file_more_is_refused(named, sentiment, reviews):
    (reviews / "parts").mkdir()
    shutil.copy("train.csv", "parts/one.csv")
    flags = merged(*FLAGS, "--train_file", named, *SHORT)
    sentiment.main(flags)
    shutil.copy("train.csv", "parts/two.csv")
    with pytest.raises(Refusal, match="a complete run on other data: parts"):
        sentiment.main(flags)


def test_other_arguments_into_the_same_folder_are_refused_with_the_difference(sentiment, reviews):
    sentiment.main([*FLAGS, *SHORT])
    with pytest.raises(Refusal, match="--seed 42 -> 7"):
        sentiment.main([*FLAGS, *SHORT, "--seed", "7"])


@pytest.mark.parametrize(
    "content", ["", "[]", "7", "{}", "status: x", '{"world_size": "2"}', "[" * 9000, "\0"]
)
@pytest.mark.parametrize("name", ["run.yaml", "run.json"])
def test_a_folder_whose_record_is_damaged_is_none_of_ours(name, content, tmp_path):
    (tmp_path / "run.yaml").write_text(
        "per_device_train_batch_size: 4\ngradient_accumulation_steps: 1\n"
    )
    (tmp_path / "run.json").write_text('{"world_size": 1}')
    assert run_record.earlier(tmp_path)
    (tmp_path / name).write_text(content)
    assert run_record.earlier(tmp_path) is None


def test_overwriting_removes_what_the_run_left_and_nothing_else(sentiment, reviews):
    sentiment.main([*FLAGS, *SHORT])
    (reviews / "out/notes.txt").write_text("mine")
    sentiment.main([*FLAGS, *SHORT, "--seed", "7", "--overwrite_output_dir"])
    assert (reviews / "out/notes.txt").read_text() == "mine"
    assert json.loads((reviews / "out/run.json").read_text())["seed"] == 7


def test_a_folder_with_a_foreign_model_is_left_alone(sentiment, reviews):
    (reviews / "out").mkdir()
    (reviews / "out/config.json").write_text("{}")
    with pytest.raises(Refusal, match="not from this recipe"):
        sentiment.main([*FLAGS, *SHORT])
    assert (reviews / "out/config.json").read_text() == "{}"


def test_an_unfinished_run_goes_on_and_ends_like_one_that_was_not_stopped(
    sentiment, reviews, capsys
):
    steps = "--max_steps 6 --per_device_train_batch_size 4 --save_steps 2 --eval_steps 2".split()
    steps += ["--save_strategy", "steps", "--eval_strategy", "steps", "--save_total_limit", "5"]
    whole = sentiment.main([*FLAGS[:4], "--output_dir", "whole", *SCRATCH, *steps])
    sentiment.main([*FLAGS, *steps])
    shutil.rmtree("out/checkpoint-6")
    shutil.rmtree("out/checkpoint-4")
    record = json.loads((reviews / "out/run.json").read_text())
    (reviews / "out/run.json").write_text(json.dumps(record | {"status": "unfinished"}))
    capsys.readouterr()
    resumed = sentiment.main([*FLAGS, *steps])
    assert "resuming from out/checkpoint-2" in capsys.readouterr().err
    assert resumed["predict_loss"] == whole["predict_loss"]


@pytest.mark.parametrize(
    "name", ["all_results.json", "train_results.json", "trainer_state.json", "predictions.jsonl"]
)
def test_a_run_that_was_killed_while_it_wrote_a_result_goes_on(name, sentiment, reviews):
    whole = sentiment.main([*FLAGS, *SHORT])
    as_if_killed(reviews / "out", "checkpoint-2")
    (reviews / "out" / name).write_text("")
    assert sentiment.main([*FLAGS, *SHORT])["predict_loss"] == whole["predict_loss"]
    assert (reviews / "out" / name).read_text()


@pytest.mark.parametrize("name", ["run.yaml", "run.json", "all_results.json"])
def test_a_run_that_is_stopped_while_it_writes_its_record_leaves_the_one_before(
    name, sentiment, reviews, monkeypatch
):
    sentiment.main([*FLAGS, *SHORT])
    as_if_killed(reviews / "out", "checkpoint-2")
    before = (reviews / "out" / name).read_text()
    replace = Path.replace

    def stopped(path, target):
        if target.name == name:
            raise signals.Stopped(signals.SIGNALS[0])
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(signals.Stopped):
        sentiment.main([*FLAGS, *SHORT])
    assert (reviews / "out" / name).read_text() == before


STEPS = "--max_steps 6 --per_device_train_batch_size 4 --save_strategy steps --save_steps 2".split()
STEPS += "--save_total_limit 5 --eval_strategy no --load_best_model_at_end false --do_train".split()
STEPS += ["--bf16", "false"]
CHANGES = {  # what changes, its flags, words of the refusal
    "a learning rate": (["--learning_rate", "1e-3"], "--learning_rate 5e-05 -> 0.001"),
    "a schedule": (["--lr_scheduler_type", "cosine"], "--lr_scheduler_type linear -> cosine"),
    "a warm-up": (["--warmup_steps", "1"], "--warmup_steps 0 -> 1"),
    "weight decay": (["--weight_decay", "0.1"], "--weight_decay"),
    "Adam's beta": (["--adam_beta2", "0.95"], "--adam_beta2 0.999 -> 0.95"),
    "an optimizer": (["--optim", "sgd"], "--optim adamw_torch_fused -> sgd"),
    "clipping": (["--max_grad_norm", "0.5"], "--max_grad_norm"),
    "label smoothing": (["--label_smoothing_factor", "0.1"], "--label_smoothing_factor"),
    "a seed": (["--seed", "7"], "--seed 42 -> 7"),
    "the order of rows": (["--data_seed", "7"], "--data_seed None -> 7"),
    "no groups of length": (["--train_sampling_strategy", "random"], "--train_sampling_strategy"),
    "batches by tokens": (["--tokens_per_batch", "64"], "--tokens_per_batch None -> 64"),
    "more steps": (["--max_steps", "8"], "--max_steps 6 -> 8"),
    "dropout": (["--config_overrides", "hidden_dropout_prob=0.2"], "--config_overrides"),
    "rows a step": (["--per_device_train_batch_size", "8"], "--per_device_train_batch_size 4 -> 8"),
    "accumulation": (
        ["--gradient_accumulation_steps", "2"],
        "--gradient_accumulation_steps 1 -> 2",
    ),
    "fewer rows": (["--max_train_samples", "8"], "--max_train_samples None -> 8"),
    "shorter rows": (["--max_seq_length", "5"], "--max_seq_length"),
    "precision": (["--bf16", "true"], "--bf16 False -> True"),
    "frozen layers": (["--freeze_encoder"], "--freeze_encoder False -> True"),
}


@pytest.fixture
def stopped(sentiment, reviews):
    """A run that was killed after its second step, in the folder out."""
    sentiment.main([*FLAGS, *STEPS])
    as_if_killed(reviews / "out", "checkpoint-2")
    return reviews / "out"


@pytest.mark.parametrize("case", CHANGES)
def test_a_flag_that_changes_the_mathematics_is_refused_on_resume(case, sentiment, stopped):
    flags, message = CHANGES[case]
    with pytest.raises(Refusal) as caught:
        sentiment.main(merged(*FLAGS, *STEPS, *flags))
    assert message in caught.value.what
    assert "--allow_changed" in caught.value.fix


def test_a_flag_that_was_permitted_may_change(sentiment, stopped, capsys):
    sentiment.main(
        merged(*FLAGS, *STEPS, "--learning_rate", "1e-3", "--allow_changed", "learning_rate")
    )
    assert "resuming from out/checkpoint-2" in capsys.readouterr().err


def test_another_split_of_the_same_step_goes_on(sentiment, stopped, capsys):
    split = ["--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2"]
    sentiment.main(merged(*FLAGS, *STEPS, *split))
    assert "resuming from out/checkpoint-2" in capsys.readouterr().err


PERMITTED = ["--logging_steps 1", "--save_steps 3", "--save_total_limit 2", "--use_cpu"]
PERMITTED += ["--per_device_eval_batch_size 3", "--gradient_checkpointing", "--disable_tqdm true"]


@pytest.mark.parametrize("flags", map(str.split, PERMITTED), ids=PERMITTED)
def test_what_does_not_change_the_mathematics_may_change(flags, sentiment, stopped, capsys):
    sentiment.main(merged(*FLAGS, *STEPS, *flags))
    assert "resuming from out/checkpoint-2" in capsys.readouterr().err


def test_other_data_under_the_same_name_is_refused_on_resume(sentiment, stopped, reviews):
    path = reviews / "train.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("the", "tho", 1), encoding="utf-8")
    with pytest.raises(Refusal, match="belongs to a run that differs: another data") as caught:
        sentiment.main([*FLAGS, *STEPS])
    assert "--allow_changed data" in caught.value.fix


def test_other_versions_are_refused_on_resume(sentiment, stopped, monkeypatch):
    monkeypatch.setattr(run_record.metadata, "version", lambda name: "9.9")
    with pytest.raises(Refusal, match="torch 2.13.0.* -> 9.9"):
        sentiment.main([*FLAGS, *STEPS])


def test_a_folder_that_another_process_trains_in_is_refused(sentiment, reviews):
    sentiment.main([*FLAGS, *STEPS])
    (reviews / "out").rename(reviews / "earlier")
    (reviews / "out").mkdir()
    code = "import fcntl, sys; lock = open('out/.lock', 'w'); fcntl.lockf(lock, fcntl.LOCK_EX); "
    code += "print('locked', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "locked\n"
    with pytest.raises(Refusal, match="another process trains in out"):
        sentiment.main([*FLAGS, *STEPS])
    for name in ("run.yaml", "run.json"):  # as the other process has them
        shutil.copy(reviews / "earlier" / name, reviews / "out" / name)
    with pytest.raises(Refusal, match="another process trains in out"):
        sentiment.main([*FLAGS, *STEPS, "--overwrite_output_dir"])
    assert (reviews / "out/run.json").exists()
    other.kill()
    other.wait()
    assert sentiment.main([*FLAGS, *STEPS, "--overwrite_output_dir"])["train_loss"] > 0


def test_a_disk_that_two_checkpoints_do_not_fit_on_is_refused(sentiment, reviews, monkeypatch):
    monkeypatch.setattr(retention.shutil, "disk_usage", lambda path: SimpleNamespace(free=5000))
    with pytest.raises(DiskFull, match="two checkpoints need .* KB, 5 KB are free"):
        sentiment.main([*FLAGS, *STEPS])


def test_a_save_that_does_not_fit_leaves_the_checkpoint_before_it_and_the_run_goes_on(
    reviews, sentiment
):
    words = [sys.executable, str(ROOT / "recipes/sentiment/run.py"), *FLAGS, *STEPS]
    limited = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (40_000, 40_000))  # bytes a file
    ended = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=limited)
    assert ended.returncode == 74, ended.stderr
    message = ended.stderr[ended.stderr.index("error: ") :].splitlines()
    assert message[0].startswith("error: File too large: a checkpoint needs about ")
    assert message[1:3] == ["  where: out", "  fix: " + FREE_SPACE]
    assert not list((reviews / "out").glob("*checkpoint*"))
    assert not list((reviews / "out").glob(".saving-*"))
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_the_run_and_more_room_lets_it_go_on(reviews, sentiment):
    sentiment.main(merged(*FLAGS, *STEPS, "--output_dir", "whole"))
    size = sum(path.stat().st_size for path in (reviews / "whole/checkpoint-2").iterdir())
    command = [
        sys.executable,
        str(ROOT / "recipes/sentiment/run.py"),
        *merged(*FLAGS, *STEPS, "--output_dir", "disk/out"),
    ]
    script = f"""mount -t tmpfs -o size={5 * size // 2} none disk || exit 3
        {shlex.join(command)}; echo first run $?; ls -a disk/out
        mount -o remount,size={99 * size} disk; {shlex.join(command)}; echo second run $?; cp -r disk/out kept"""
    (reviews / "disk").mkdir()
    words = ["unshare", "--mount", "--map-root-user", "sh", "-c", script]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode == 3 or "unshare failed" in ended.stderr:
        pytest.skip("this machine lets nobody mount a file system of their own")
    assert "first run 74" in ended.stdout
    assert "error: No space left on device: a checkpoint needs about " in ended.stderr
    assert "checkpoint-2\n" in ended.stdout
    assert ".saving-" not in ended.stdout
    assert "second run 0" in ended.stdout
    assert (reviews / "kept/model.safetensors").read_bytes() == (
        reviews / "whole/model.safetensors"
    ).read_bytes()


def test_a_checkpoint_that_holds_the_model_alone_is_passed_over(sentiment, reviews, capsys):
    sentiment.main([*FLAGS, *STEPS, "--save_only_model"])
    as_if_killed(reviews / "out", "checkpoint-2")
    sentiment.main([*FLAGS, *STEPS, "--save_only_model"])
    said = capsys.readouterr().err
    assert (
        "out/checkpoint-2 is skipped: it holds a model alone, as --save_only_model writes it"
        in said
    )
    assert "resuming" not in said


def test_a_damaged_checkpoint_is_not_resumed_from(sentiment, reviews, capsys):
    sentiment.main([*FLAGS, *SHORT])
    (reviews / "out/checkpoint-2/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(Refusal, match="not a whole checkpoint"):
        files = ["--train_file", "train.csv", "--output_dir", "other", *SCRATCH, *SHORT]
        sentiment.main([*files, "--resume_from_checkpoint", "out/checkpoint-2"])


def test_the_summary_and_the_closing_table_are_printed(sentiment, reviews, capsys):
    sentiment.main([*FLAGS, *SHORT])
    printed = capsys.readouterr().out
    assert (
        "train       36 of 40 rows, 4 held out for validation, 360 tokens, 0.0% truncated"
        in printed
    )
    assert "training    2 steps of 4 rows, learning rate 5e-05" in printed
    assert "baseline" in printed
    assert "report      out/README.md" in printed


def test_the_card_names_scores_data_errors_and_the_command_that_repeats_it(sentiment, reviews):
    metrics = sentiment.main([*FLAGS, *SHORT])
    card = (reviews / "out/README.md").read_text()
    assert f"{metrics['predict_accuracy']:.4f}" in card
    assert "train.csv" in card
    assert "## Limits" in card
    assert "--config out/run.yaml --output_dir out_again" in card


def test_no_secret_is_written(sentiment, reviews):
    sentiment.main([*FLAGS, *SHORT, "--hub_token", "hf_secret"])
    written = [path for path in (reviews / "out").rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if b"hf_secret" in path.read_bytes()]


def test_the_best_model_is_the_one_of_the_best_accuracy_not_of_the_lowest_loss(sentiment, reviews):
    steps = "--max_steps 4 --eval_steps 1 --save_steps 1 --learning_rate 0.05".split()
    steps += "--save_strategy steps --eval_strategy steps --save_total_limit 9 --seed 1".split()
    metrics = sentiment.main([*FLAGS, *steps, "--load_best_model_at_end"])
    state = json.loads((reviews / "out/trainer_state.json").read_text())
    evaluated = {
        entry["step"]: entry["eval_accuracy"]
        for entry in state["log_history"]
        if "eval_accuracy" in entry
    }
    assert len(evaluated) == 4
    assert state["best_metric"] == max(evaluated.values()) == metrics["eval_accuracy"]


def test_a_file_that_has_come_beside_those_of_a_pattern_is_other_data(in_tmp_path):
    for name in ("a.csv", "b.csv", "c.csv"):
        (in_tmp_path / name).write_text(name, encoding="utf-8")
    digests = {name: content_hash(Path(name)) for name in ("a.csv", "b.csv")}
    facts = {"data_sha256": digests, "data": {"train": list(digests.values())}}
    known = {"train_file": ["[ab].csv"]}

    def other(*patterns):
        return run_identity.other_data(
            facts, known, Run({"train_file": [*patterns]}, "", Path("run.py"))
        )

    assert other("[ab].csv") == other("a.csv", "./b.csv") == ""
    assert other("*.csv") == "c.csv"
    assert other("b.csv", "a.csv") == "b.csv"  # in another order they are other rows
    (in_tmp_path / "a.csv").write_text("changed", encoding="utf-8")
    assert other("*.csv") == other("[ab].csv") == "a.csv"


def test_the_card_of_a_run_on_two_processes_repeats_it_on_two():
    facts = {
        "command": "python run.py",
        "world_size": 2,
        "seconds": 1,
        "hardware": "",
        "git_commit": "",
        "versions": {},
    }
    assert "torchrun --nproc_per_node 2 run.py --config out/run.yaml" in model_card._repeat_section(
        facts, {"output_dir": "out"}
    )
