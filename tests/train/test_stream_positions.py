"""Streams in every recipe: each pass over the rows is an epoch, as it is in memory."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import as_if_killed, load_recipe, merged, row
from trainers import rows

from recipes.common.checkpoints import retention
from recipes.common.tokens import encoding
from recipes.common.train.callbacks import EpochsOfStream
from tools import equivalence

pytest_plugins = ["trainers"]

LANGUAGES = ["--source_lang", "en", "--target_lang", "de"]
EPOCHS = "--streaming --num_train_epochs 3 --eval_strategy epoch --save_strategy epoch".split()
EPOCHS += (
    "--per_device_train_batch_size 4 --save_total_limit 9 --load_best_model_at_end false"
).split()


def flags(recipe, folder, number_of_rows=20):
    """The flags of a tiny run of a recipe, with its data of so many rows."""
    data = folder / f"{recipe}.jsonl"
    data.write_text(
        "".join(json.dumps(row(recipe, number)) + "\n" for number in range(number_of_rows)), "utf-8"
    )
    words = ["--train_file", str(data), "--validation_file", str(data)]
    words += "--output_dir out --bf16 false --vocab_size 300 --max_eval_samples 4".split()
    words += equivalence.MODELS[recipe]
    return [*words, *(LANGUAGES if recipe == "translation" else [])]


def steps(folder="out"):
    """The steps at which a run was evaluated, and those that were saved."""
    with open(f"{folder}/trainer_state.json", encoding="utf-8") as stream:
        log = json.load(stream)["log_history"]
    evaluated = [entry["step"] for entry in log if "eval_loss" in entry]
    return evaluated, sorted(map(retention.step, retention.all_of(Path(folder))))


@pytest.mark.parametrize(
    "name", ["sentiment", "translation", "summarization", "token_classification"]
)
def test_a_stream_of_rows_is_evaluated_and_saved_once_a_pass_as_in_memory(name, in_tmp_path):
    """20 rows in batches of 4 are 5 steps a pass."""
    load_recipe(name).main(merged(*flags(name, in_tmp_path), *EPOCHS))
    assert steps() == ([5, 10, 15], [5, 10, 15])


@pytest.mark.parametrize("name", ["mlm_pretrain", "clm_pretrain"])
def test_a_stream_of_blocks_is_evaluated_and_saved_once_a_pass(name, in_tmp_path):
    load_recipe(name).main(merged(*flags(name, in_tmp_path, 200), *EPOCHS))
    evaluated, saved = steps()
    assert evaluated == saved
    assert len(saved) == 3
    # A pass ends in mid-step: the last one has at most as many steps as the others.
    assert 0 <= 3 * saved[0] - saved[2] < 3


def test_early_stopping_stops_a_stream_after_a_pass_and_evaluates_it_once(sentiment, in_tmp_path):
    never_better = (
        "--early_stopping_patience 1 --learning_rate 0 --load_best_model_at_end true"
    ).split()
    sentiment.main(merged(*flags("sentiment", in_tmp_path), *EPOCHS, *never_better))
    assert steps() == ([5, 10], [5, 10])


@pytest.mark.parametrize("name", ["sentiment", "clm_pretrain"])
def test_a_stream_that_was_killed_after_a_pass_goes_on_to_the_bit(name, in_tmp_path):
    recipe, words = load_recipe(name), merged(*flags(name, in_tmp_path, 100), *EPOCHS)
    recipe.main(words)
    shutil.copytree("out", "whole")
    first = min(steps()[1])
    as_if_killed(in_tmp_path / "out", f"checkpoint-{first}")
    recipe.main(words)
    assert (in_tmp_path / "out/model.safetensors").read_bytes() == (
        in_tmp_path / "whole/model.safetensors"
    ).read_bytes()
    assert steps("out")[0] == steps("whole")[0]


def test_given_steps_end_passes_too(sentiment, in_tmp_path):
    sentiment.main(merged(*flags("sentiment", in_tmp_path), *EPOCHS, "--max_steps", "12"))
    assert steps()[0] == [5, 10, 12]


def test_whose_passes_nobody_knows_waits_for_the_last_step_and_says_so(trainer, tokenizer, capsys):
    stream = encoding.RowStream(rows(tokenizer).to_iterable_dataset(), dict, ())
    built = trainer(stream, validation=rows(tokenizer), eval_strategy="epoch", max_steps=5)
    assert (
        "the length of this stream is unknown: --eval_strategy epoch waits"
        in capsys.readouterr().err
    )
    built.train()
    assert [log["step"] for log in built.state.log_history if "eval_loss" in log] == [5]


def test_of_a_stream_without_a_known_end_the_epoch_is_a_share():
    class State:
        global_step, max_steps, epoch = 3, 12, 0.0

    EpochsOfStream(None).on_step_end(None, State, None)
    assert State.epoch == 0.25
