"""A run in its folder: what is the same run, what stops the next, how a complete one continues."""

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, SCRATCH, SHORT, as_if_killed, merged
from safetensors.torch import load_file, save_file

from recipes.common.checkpoints import retention
from recipes.common.report import run_record
from recipes.common.runtime import hashing
from recipes.common.runtime.errors import Refusal, TrainingFailed

FILES = ["--train_file", "train.csv", "--output_dir", "out", *SCRATCH]
STEPS = "--max_steps 4 --per_device_train_batch_size 4 --save_strategy steps --save_steps 2".split()
STEPS += "--eval_strategy no --load_best_model_at_end false --do_train --bf16 false".split()
STEPS += ["--logging_steps", "1"]


def is_complete(recipe, *flags):
    """Whether a command finds that its run is complete."""
    try:
        recipe.main.__wrapped__(merged(*flags))
    except SystemExit as ended:
        return ended.code == 0
    return False


# Commands that are refused at different places, and the words of the refusal.
REFUSED = {
    "a column": (["--label_column_name", "nope"], "no column 'nope'"),
    "a file": (["--train_file", "trian.csv"], "no such file"),
    "a model": (["--config_overrides", "hidden_size=15,num_attention_heads=2"], "sizes"),
    "a checkpoint": (
        ["--resume_from_checkpoint", "nowhere/checkpoint-3"],
        "not a whole checkpoint",
    ),
    "a batch": (
        ["--per_device_train_batch_size", "64", "--dataloader_drop_last"],
        "less than one batch",
    ),
    "a metric": (["--load_best_model_at_end", "true", "--metric_for_best_model", "nope"], "nope"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_run_does_not_stand_in_the_way_of_the_corrected_one(case, sentiment, reviews):
    wrong, words = REFUSED[case]
    short = [*SHORT, "--save_steps", "1", "--eval_steps", "1"]
    with pytest.raises(Refusal, match=words):
        sentiment.main(merged(*FILES, *short, *wrong))
    assert (
        not (reviews / "out/run.yaml").exists() or case == "a metric"
    )  # which is known once something is evaluated
    assert sentiment.main(merged(*FILES, *SHORT, "--seed", "7"))["eval_samples"] == 4


def test_a_run_that_failed_before_its_first_checkpoint_does_not_stand_in_the_way(
    sentiment, reviews, monkeypatch
):
    def failing(*arguments, **options):
        raise TrainingFailed("the loss is nan")

    with monkeypatch.context() as patched, pytest.raises(TrainingFailed):
        patched.setattr("recipes.common.train.trainer.Trainer.training_step", failing)
        sentiment.main(merged(*FILES, *STEPS))
    assert (reviews / "out/run.yaml").exists()
    assert sentiment.main(merged(*FILES, *STEPS, "--seed", "7"))["train_loss"] > 0


def test_an_evaluation_does_not_stand_in_the_way_and_its_results_go(sentiment, reviews):
    sentiment.main(merged(*FILES, *STEPS, "--output_dir", "base"))
    evaluated = "--validation_file test.csv --output_dir out --model_name_or_path base".split()
    assert (
        sentiment.main([*evaluated, "--do_train", "false", "--max_seq_length", "32"])[
            "eval_samples"
        ]
        == 8
    )
    assert is_complete(sentiment, *evaluated, "--do_train", "false", "--max_seq_length", "32")
    sentiment.main(merged(*FILES, *STEPS))
    assert not (reviews / "out/eval_results.json").exists()


def test_a_refused_run_that_would_overwrite_removes_nothing(sentiment, reviews):
    sentiment.main(merged(*FILES, *STEPS))
    before = sorted(reviews.joinpath("out").rglob("*"))
    with pytest.raises(Refusal, match="no such file"):
        sentiment.main(
            merged(*FILES, *STEPS, "--train_file", "trian.csv", "--overwrite_output_dir")
        )
    assert sorted(reviews.joinpath("out").rglob("*")) == before
    assert is_complete(sentiment, *FILES, *STEPS)


def test_a_checkpoint_that_would_be_overwritten_is_not_gone_on_from(sentiment, reviews):
    sentiment.main(merged(*FILES, *STEPS))
    with pytest.raises(Refusal, match="out/checkpoint-2 would be removed"):
        sentiment.main(
            [
                *FILES,
                *STEPS,
                "--overwrite_output_dir",
                "--resume_from_checkpoint",
                "out/checkpoint-2",
            ]
        )


SAME = {  # other words for the same run
    "a slash": ["--output_dir", "out/"],
    "a dot": ["--output_dir", "./out"],
    "a link": ["--output_dir", "link"],
    "an absolute path": ["--output_dir", "{here}/out"],
    "a moved folder": ["--output_dir", "moved/here"],
    "the data with a dot": ["--train_file", "./train.csv"],
    "the data absolute": ["--train_file", "{here}/train.csv"],
    "a copy of the data": ["--train_file", "copy/reviews.csv"],
    "a pattern": ["--train_file", "trai*.csv"],
    "a moved tokenizer": ["--tokenizer_name", "copy/tokenizer"],
    "a tokenizer with a slash": ["--tokenizer_name", "./tokenizer/"],
}


@pytest.fixture
def complete(sentiment, reviews):
    """A complete run with a tokenizer of its own, and copies of what it read."""
    sentiment.main(merged(*FILES, *STEPS, "--output_dir", "first"))
    shutil.copytree("first", "tokenizer", ignore=shutil.ignore_patterns("checkpoint*", "model*"))
    flags = [*FILES, *STEPS, "--tokenizer_name", "tokenizer"]
    sentiment.main(merged(*flags))
    (reviews / "copy").mkdir()
    shutil.copy("train.csv", "copy/reviews.csv")
    shutil.copytree("tokenizer", "copy/tokenizer")
    return flags


def test_the_same_run_in_other_words_is_complete(complete, sentiment, reviews):
    assert len(SAME) > 10
    (reviews / "link").symlink_to("out")
    shutil.copytree("out", "moved/here")
    for case, words in SAME.items():
        words = [word.format(here=reviews) for word in words]
        assert is_complete(sentiment, *complete, *words), case


@pytest.mark.parametrize("kept", [(), ("checkpoint-2",)])
def test_the_same_run_in_other_words_goes_on(kept, complete, sentiment, reviews, capsys):
    as_if_killed(reviews / "out", "checkpoint-2")
    os.rename("out", "moved")
    words = (
        "--output_dir moved/ --train_file copy/reviews.csv --tokenizer_name copy/tokenizer"
    ).split()
    if not kept:  # the record is lost
        (reviews / "moved/run.yaml").unlink()
    sentiment.main(merged(*complete, *words))
    assert "resuming from moved/checkpoint-2" in capsys.readouterr().err
    assert (
        load_file("moved/model.safetensors").keys() == load_file("first/model.safetensors").keys()
    )


def weights_changed(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value + 1 for name, value in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )


def line_added(path):
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")


@pytest.fixture
def copied(reviews):
    """A copy of the recipe in the current folder; its run.py."""
    folder = reviews / "recipes/mine"
    shutil.copytree(ROOT / "recipes/sentiment", folder)
    (reviews / "recipes/common").symlink_to(ROOT / "recipes/common")
    return folder / "run.py"


def other_words(path):
    path.write_text(path.read_text(encoding="utf-8").replace("a", "b", 1), encoding="utf-8")


# What a complete run read, how it changes, and the words of the refusal.
CHANGED = {
    "weights": (lambda: weights_changed(Path("base")), "another content of model_name_or_path"),
    "tokenizer": (
        lambda: line_added(Path("words/tokenizer.json")),
        "another content of tokenizer_name",
    ),
    "configuration": (
        lambda: line_added(Path("own/config.json")),
        "another content of config_name",
    ),
    "code": (lambda: line_added(Path("recipes/mine/run.py")), "another content of run.py"),
    "data": (lambda: other_words(Path("train.csv")), "on other data: train.csv has changed"),
}


def test_what_a_complete_run_read_has_changed(sentiment, copied, reviews):
    sentiment.main(merged(*FILES, *STEPS, "--output_dir", "base"))
    shutil.copytree("base", "words")
    shutil.copytree("base", "own")
    recipe = load_recipe_at(copied)
    flags = [
        *FILES[:4],
        *STEPS,
        *"--max_seq_length 32 --model_name_or_path base --tokenizer_name words".split(),
    ]
    flags = merged(*flags, "--config_name", "own", "--output_dir", "tuned")
    recipe.main(flags)
    for case, (change, words) in CHANGED.items():
        assert is_complete(recipe, *flags), case
        before = {path: path.read_bytes() for path in reviews.rglob("*") if path.is_file()}
        change()
        with pytest.raises(Refusal, match=words):
            recipe.main(flags)
        for path in [path for path, content in before.items() if path.read_bytes() != content]:
            path.write_bytes(before[path])


def load_recipe_at(path):
    """The module of a copied recipe."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("mine_run", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_a_run_wrote_beside_its_model_is_no_part_of_it(tmp_path):
    (tmp_path / "model.safetensors").write_text("weights")
    digest = hashing.hash_of(tmp_path)
    (tmp_path / "eval_results.json").write_text("{}")
    (tmp_path / "README.md").write_text("a card")
    assert hashing.hash_of(tmp_path) == digest
    (tmp_path / "tokenizer.json").write_text("{}")
    assert hashing.hash_of(tmp_path) != digest


def test_a_named_checkpoint_of_a_run_with_other_flags_is_refused(sentiment, reviews):
    sentiment.main(merged(*FILES, *STEPS))
    flags = [
        *FILES,
        *STEPS,
        *"--output_dir other --resume_from_checkpoint out/checkpoint-2".split(),
    ]
    with pytest.raises(Refusal, match="other arguments: --learning_rate 5e-05 -> 0.001"):
        sentiment.main(merged(*flags, "--learning_rate", "1e-3"))
    sentiment.main(merged(*flags))
    assert (reviews / "other/model.safetensors").read_bytes() == (
        reviews / "out/model.safetensors"
    ).read_bytes()


BEST = (
    "--eval_strategy steps --eval_steps 2 --load_best_model_at_end --greater_is_better false"
).split()
BEST += ["--metric_for_best_model", "eval_loss", "--learning_rate", "0.5"]  # the later the worse
LATER = "--max_steps 6 --output_dir other --resume_from_checkpoint out/checkpoint-4".split()


def test_the_best_checkpoint_may_lie_in_the_folder_of_the_run_that_is_gone_on_with(
    sentiment, reviews
):
    sentiment.main(merged(*FILES, *STEPS, *BEST))
    best = json.loads((reviews / "out/checkpoint-4/trainer_state.json").read_text())[
        "best_global_step"
    ]
    sentiment.main(merged(*FILES, *STEPS, *BEST, *LATER))
    state = json.loads((reviews / "other/checkpoint-6/trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == f"out/checkpoint-{best}"
    assert weights("other") == weights(f"out/checkpoint-{best}") != weights("other/checkpoint-6")


def test_a_run_that_was_killed_finds_the_best_checkpoint_in_the_other_folder_again(
    sentiment, reviews
):
    sentiment.main(merged(*FILES, *STEPS, *BEST))
    sentiment.main(merged(*FILES, *STEPS, *BEST, *LATER))
    expected = weights("other")
    as_if_killed(reviews / "other", "checkpoint-6")
    sentiment.main(merged(*FILES, *STEPS, *BEST, *LATER))
    assert weights("other") == expected


def test_a_best_checkpoint_that_is_gone_is_said_and_the_best_judged_anew(
    sentiment, reviews, capsys
):
    unchanged = [
        *FILES,
        *STEPS,
        *BEST,
        "--learning_rate",
        "0",
    ]  # the first evaluation stays the best
    sentiment.main(merged(*unchanged))
    shutil.rmtree("out/checkpoint-2")
    sentiment.main(merged(*unchanged, *LATER))
    assert "checkpoint-2 was the best so far, and is gone from out" in capsys.readouterr().err
    assert (
        json.loads((reviews / "other/checkpoint-6/trainer_state.json").read_text())[
            "best_global_step"
        ]
        == 6
    )


def test_other_intervals_of_saves_and_logs_are_heard_when_a_run_goes_on(sentiment, reviews):
    """Trainer took the checkpoint's intervals: it saved at 6 and 8, and logged at every step."""
    sentiment.main(merged(*FILES, *STEPS))
    longer = "--max_steps 7 --save_steps 3 --logging_steps 2 --save_total_limit 9".split()
    sentiment.main(merged(*FILES, *STEPS, *longer, "--resume_from_checkpoint", "out/checkpoint-4"))
    assert {path.name for path in (reviews / "out").glob("checkpoint-*")} >= {
        "checkpoint-6",
        "checkpoint-7",
    }
    logs = json.loads((reviews / "out/trainer_state.json").read_text(encoding="utf-8"))[
        "log_history"
    ]
    assert [line["step"] for line in logs if "loss" in line] == [1, 2, 3, 4, 6]


def test_another_metric_judges_the_best_checkpoint_anew(sentiment, reviews, capsys):
    """An accuracy of 0.5 was compared with a loss of 0.69: no later checkpoint was better."""
    constant = merged(*FILES, *STEPS, *BEST, "--learning_rate", "0")
    sentiment.main(constant)
    other = "--metric_for_best_model accuracy --greater_is_better true --max_steps 6".split()
    allowed = ["--allow_changed", "metric_for_best_model", "greater_is_better", "learning_rate"]
    sentiment.main(
        merged(*constant, *other, *allowed, "--resume_from_checkpoint", "out/checkpoint-4")
    )
    assert (
        "another --greater_is_better: the best checkpoint is chosen by it from here on"
        in capsys.readouterr().err
    )
    assert (
        json.loads(Path("out/trainer_state.json").read_text(encoding="utf-8"))["best_global_step"]
        == 6
    )


def test_a_run_that_was_killed_has_waited_as_long_for_a_better_score_as_one_that_was_not(
    sentiment, reviews
):
    """Evaluated at 2, which stays the best, then at 4, 6 and 8; killed after the second of them."""
    patient = merged(
        *FILES,
        *STEPS,
        *BEST,
        "--learning_rate",
        "0",
        "--max_steps",
        "40",
        "--early_stopping_patience",
        "3",
    )
    sentiment.main([*patient, "--save_total_limit", "9"])
    assert steps_taken() == 8
    as_if_killed(reviews / "out", "checkpoint-2", "checkpoint-4")
    sentiment.main([*patient, "--save_total_limit", "9"])
    assert steps_taken() == 8


def test_early_stopping_may_begin_when_a_run_goes_on(sentiment, reviews):
    """Trainer looked for its state in the checkpoint: KeyError at the next save."""
    constant = merged(*FILES, *STEPS, *BEST, "--learning_rate", "0")
    sentiment.main(constant)
    more = (
        "--max_steps 40 --early_stopping_patience 3 --allow_changed early_stopping_patience"
    ).split()
    sentiment.main(merged(*constant, *more, "--resume_from_checkpoint", "out/checkpoint-4"))
    assert steps_taken() == 10


def steps_taken():
    return json.loads(Path("out/trainer_state.json").read_text(encoding="utf-8"))["global_step"]


def weights(folder):
    return Path(folder, "model.safetensors").read_bytes()


NO_CHECKPOINT = {  # what is named as the checkpoint, words of the refusal and of the way out
    "a run": ("out", "out is not a whole checkpoint", "--resume_from_checkpoint out/checkpoint-4"),
    "of another Trainer": (
        "theirs/checkpoint-500",
        "manifest.json is missing",
        "--model_name_or_path theirs/checkpoint",
    ),
    "another name": ("best", "does not say after which step", "checkpoint-N"),
    "nothing": ("nowhere/checkpoint-2", "manifest.json is missing", "the newest intact one"),
}


def test_what_is_no_checkpoint_is_refused_with_what_it_may_be(sentiment, reviews):
    sentiment.main(merged(*FILES, *STEPS))
    shutil.copytree("out/checkpoint-2", "best")
    shutil.copytree("out/checkpoint-2", "theirs/checkpoint-500")
    (reviews / "theirs/checkpoint-500/manifest.json").unlink()
    for named, words, fix in NO_CHECKPOINT.values():
        with pytest.raises(Refusal, match=words) as caught:
            sentiment.main(
                merged(*FILES, *STEPS, "--output_dir", "other", "--resume_from_checkpoint", named)
            )
        assert fix in caught.value.fix


def test_a_file_system_without_locks_is_no_matter(tmp_path, monkeypatch):
    def unable(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(run_record.fcntl, "lockf", unable)
    run_record.lock(tmp_path / "out")
    assert (tmp_path / "out").is_dir()


def test_without_run_yaml_the_checkpoint_says_what_its_run_was(sentiment, reviews):
    sentiment.main(merged(*FILES, *STEPS))
    (reviews / "out/run.yaml").unlink()
    with pytest.raises(
        Refusal, match="out/checkpoint-4 belongs to a run with other arguments: --seed 42 -> 7"
    ):
        sentiment.main(merged(*FILES, *STEPS, "--seed", "7"))


def test_a_run_that_was_refused_while_it_went_on_leaves_the_flags_as_they_were(sentiment, reviews):
    sentiment.main(merged(*FILES, *STEPS))
    as_if_killed(reviews / "out", "checkpoint-2")
    with pytest.raises(Refusal, match="no such file"):
        sentiment.main(
            merged(
                *FILES,
                *STEPS,
                "--seed",
                "7",
                "--allow_changed",
                "seed",
                "--train_file",
                "trian.csv",
            )
        )
    assert sentiment.main(merged(*FILES, *STEPS))["train_loss"] > 0


LONGER = ["--max_steps", "8"]
CONSTANT = ["--lr_scheduler_type", "constant"]


@pytest.mark.parametrize("words", [("--max_steps", "4", "8"), ("--num_train_epochs", "1", "2")])
def test_more_steps_go_on_to_the_bit_where_the_schedule_does_not_know_the_last_one(
    words, sentiment, reviews
):
    flag, short, long = words
    steps = [*STEPS, *CONSTANT, *(["--max_steps", "-1"] if "epochs" in flag else [])]
    sentiment.main(merged(*FILES, *steps, flag, long, "--output_dir", "whole"))
    sentiment.main(merged(*FILES, *steps, flag, short))
    sentiment.main(merged(*FILES, *steps, flag, long))
    assert (reviews / "whole/model.safetensors").read_bytes() == (
        reviews / "out/model.safetensors"
    ).read_bytes()


def test_more_steps_of_another_schedule_name_the_checkpoint_which_goes_on(
    sentiment, reviews, capsys
):
    sentiment.main(merged(*FILES, *STEPS))
    with pytest.raises(Refusal, match="--max_steps 4 -> 8") as caught:
        sentiment.main(merged(*FILES, *STEPS, *LONGER))
    assert "--resume_from_checkpoint out/checkpoint-4" in caught.value.fix
    sentiment.main(merged(*FILES, *STEPS, *LONGER, "--resume_from_checkpoint", "out/checkpoint-4"))
    assert "resuming from out/checkpoint-4, with --max_steps 4 -> 8" in capsys.readouterr().err
    log = json.loads((reviews / "out/trainer_state.json").read_text(encoding="utf-8"))[
        "log_history"
    ]
    rates = [entry["learning_rate"] for entry in log if "learning_rate" in entry]
    # Four steps of four end at a fourth of 5e-5; then the last four of eight begin at a half.
    assert rates[3:5] == pytest.approx([5e-5 / 4, 5e-5 / 2])
    assert is_complete(sentiment, *FILES, *STEPS, *LONGER)


WEIGHTS = [
    (["--train_file", "test.csv"], "train.csv.. -> ..test.csv"),
    (["--max_steps", "8"], "--max_steps 4 -> 8"),
]


@pytest.mark.parametrize(("changed", "words"), WEIGHTS)
def test_without_a_checkpoint_the_weights_are_the_way(changed, words, sentiment, reviews):
    steps = [*STEPS, "--save_strategy", "no"]
    sentiment.main(merged(*FILES, *steps))
    with pytest.raises(Refusal, match=f"out holds a complete run .*{words}") as caught:
        sentiment.main(merged(*FILES, *steps, *changed))
    assert "--model_name_or_path out" in caught.value.fix


def test_a_model_without_checkpoints_of_a_run_that_was_killed_at_its_end_stays(sentiment, reviews):
    steps = [*STEPS, "--save_strategy", "no"]
    sentiment.main(merged(*FILES, *steps))
    as_if_killed(reviews / "out")
    with pytest.raises(Refusal, match="the model of a run with other arguments: --seed 42 -> 7"):
        sentiment.main(merged(*FILES, *steps, "--seed", "7"))
    assert sentiment.main(merged(*FILES, *steps))["train_loss"] > 0


def test_a_complete_run_predicts_without_training_again(sentiment, reviews, capsys):
    sentiment.main(merged(*FILES, *STEPS))
    metrics = sentiment.main(merged(*FILES, *STEPS, "--test_file", "test.csv", "--do_predict"))
    assert metrics["predict_samples"] == 8
    assert (
        "nothing is left to train: out/checkpoint-4 is of the last step" in capsys.readouterr().err
    )


NO_STEP = {  # flags, words of the refusal
    "no step": (["--max_steps", "0"], "--max_steps is 0"),
    "no epoch": (["--max_steps", "-1", "--num_train_epochs", "0"], "--num_train_epochs is 0"),
    "less than no epoch": (
        ["--max_steps", "-1", "--num_train_epochs", "-1"],
        "--num_train_epochs is -1",
    ),
    "of a stream": (
        ["--max_steps", "-1", "--num_train_epochs", "-1", "--streaming"],
        "--num_train_epochs is -1",
    ),
    "no batch": (
        ["--per_device_train_batch_size", "64", "--dataloader_drop_last"],
        "40 rows are less than one batch",
    ),
}


@pytest.mark.parametrize("case", NO_STEP)
def test_a_training_that_takes_no_step_is_refused(case, sentiment, reviews):
    flags, words = NO_STEP[case]
    with pytest.raises(Refusal, match=words):
        sentiment.main(merged(*FILES, *STEPS, *flags))
    assert not (reviews / "out/README.md").exists()


def test_a_training_that_ends_before_its_checkpoint_is_refused(sentiment, reviews):
    sentiment.main(merged(*FILES, *STEPS, *CONSTANT))
    as_if_killed(reviews / "out", "checkpoint-4")
    with pytest.raises(Refusal, match="the training ends after step 3, before out/checkpoint-4"):
        sentiment.main(merged(*FILES, *STEPS, *CONSTANT, "--max_steps", "3"))


def test_a_training_whose_last_step_is_saved_says_that_nothing_is_left(sentiment, reviews, capsys):
    sentiment.main(merged(*FILES, *STEPS))
    as_if_killed(reviews / "out", "checkpoint-4")
    sentiment.main(merged(*FILES, *STEPS))
    assert (
        "nothing is left to train: out/checkpoint-4 is of the last step" in capsys.readouterr().err
    )


def test_a_loader_without_a_batch_is_no_training(sentiment, reviews, monkeypatch):
    monkeypatch.setattr("recipes.common.runner.Trainer.get_train_dataloader", lambda self: [])
    with pytest.raises((TrainingFailed, Refusal)):
        sentiment.main(merged(*FILES, *STEPS))
    assert not (reviews / "out/README.md").exists()


@pytest.mark.parametrize("folder", ["out", "out/below"])
def test_a_folder_that_may_not_be_written_is_refused_before_anything_is_read(
    folder, sentiment, reviews, monkeypatch
):
    def refused(path, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(Refusal, match="cannot write: Permission denied"):
        sentiment.main(merged(*FILES, "--train_file", "trian.csv", "--output_dir", folder))


def test_foreign_checkpoints_and_models_stay(sentiment, reviews):
    (reviews / "out/checkpoint-500").mkdir(parents=True)
    (reviews / "out/checkpoint-500/keep.txt").write_text("mine")
    (reviews / "out/model.safetensors").write_text("mine")
    for flags in ([], ["--overwrite_output_dir"]):
        with pytest.raises(Refusal, match="not from this recipe"):
            sentiment.main(merged(*FILES, *STEPS, *flags))
    assert (reviews / "out/model.safetensors").read_text() == "mine"
    assert retention.all_of(reviews / "out")
    run_record.remove(reviews / "out")
    assert (reviews / "out/checkpoint-500/keep.txt").exists()
