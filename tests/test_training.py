"""A run in its folder: resumed, complete, refused with the difference, or begun anew."""

import json
import shutil

import pytest
from conftest import SCRATCH, SHORT

from recipes.common.errors import Refusal

FLAGS = ["--train_file", "train.csv", "--test_file", "test.csv", "--output_dir", "out", *SCRATCH]


def test_the_same_command_again_says_complete_and_changes_nothing(sentiment, reviews, capsys):
    sentiment.main([*FLAGS, *SHORT])
    before = {path: path.stat().st_mtime_ns for path in (reviews / "out").rglob("*")}
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        sentiment.main([*FLAGS, *SHORT])
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert "already complete" in printed.err
    assert "accuracy" in printed.out
    assert {path: path.stat().st_mtime_ns for path in (reviews / "out").rglob("*")} == before


def test_other_arguments_into_the_same_folder_are_refused_with_the_difference(sentiment, reviews):
    sentiment.main([*FLAGS, *SHORT])
    with pytest.raises(Refusal, match="--seed 42 -> 7"):
        sentiment.main([*FLAGS, *SHORT, "--seed", "7"])


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


def test_an_unfinished_run_goes_on_and_ends_like_one_that_was_not_stopped(sentiment, reviews, capsys):
    steps = ["--max_steps", "6", "--per_device_train_batch_size", "4", "--save_steps", "2", "--eval_steps", "2"]
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


def test_a_damaged_checkpoint_is_not_resumed_from(sentiment, reviews, capsys):
    sentiment.main([*FLAGS, *SHORT])
    (reviews / "out/checkpoint-2/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(Refusal, match="not a whole checkpoint"):
        files = ["--train_file", "train.csv", "--output_dir", "other", *SCRATCH, *SHORT]
        sentiment.main([*files, "--resume_from_checkpoint", "out/checkpoint-2"])


def test_the_summary_and_the_closing_table_are_printed(sentiment, reviews, capsys):
    sentiment.main([*FLAGS, *SHORT])
    printed = capsys.readouterr().out
    assert "train       36 of 40 rows, 4 held out for validation, 360 tokens, 0.0% truncated" in printed
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
    steps = ["--max_steps", "4", "--eval_steps", "1", "--save_steps", "1", "--learning_rate", "0.05"]
    steps += ["--save_strategy", "steps", "--eval_strategy", "steps", "--save_total_limit", "9", "--seed", "1"]
    metrics = sentiment.main([*FLAGS, *steps, "--load_best_model_at_end"])
    state = json.loads((reviews / "out/trainer_state.json").read_text())
    evaluated = {entry["step"]: entry["eval_accuracy"] for entry in state["log_history"] if "eval_accuracy" in entry}
    assert len(evaluated) == 4
    assert state["best_metric"] == max(evaluated.values()) == metrics["eval_accuracy"]
