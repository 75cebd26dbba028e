"""The recipe from end to end, on tiny data: what a run leaves, and that its scores do not depend on how it was run."""

import json

import numpy
import pytest
import torch
from conftest import SCRATCH, SHORT, WITHOUT_TEST, as_if_killed, load_recipe, merged, predictions
from safetensors.torch import load_file
from transformers import pipeline

from recipes.common.predict.opening import open_folder
from recipes.common.runtime.errors import Refusal

RECIPE = "mlm_pretrain"
FILES = ["--train_file", "text.txt", "--validation_file", "more.txt", "--output_dir", "out"]


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(RECIPE)


def test_a_run_leaves_the_whole_contract(recipe, texts):
    metrics = recipe.main([*FILES, *SCRATCH, *SHORT])
    assert {path.name for path in (texts / "out").iterdir()} >= WITHOUT_TEST | {"checkpoint-2"}
    results = json.loads((texts / "out/all_results.json").read_text())
    assert results["perplexity"] == results["eval_perplexity"] == metrics["eval_perplexity"]
    assert results["eval_perplexity"] == pytest.approx(numpy.exp(results["eval_loss"]))
    counts = json.loads((texts / "out/run.json").read_text())["tokens"]["train"]
    assert counts["rows"] == 60 and counts["tokens"] == counts["packed"]


def test_the_rows_sum_to_the_score(recipe, texts):
    metrics = recipe.main([*FILES, *SCRATCH, *SHORT])
    rows = predictions()
    assert [row["row_id"] for row in rows] == list(range(len(rows)))
    total = sum(row["loss"] * row["tokens"] for row in rows if row["tokens"])
    assert total / sum(row["tokens"] for row in rows) == pytest.approx(
        metrics["eval_cross_entropy"], abs=1e-5
    )


def test_perplexity_is_the_same_for_every_batch_size_and_seed(recipe, texts):
    recipe.main([*FILES, *SCRATCH, *SHORT])
    flags = (
        "--model_name_or_path out --do_eval --bf16 false --validation_file more.txt "
        "--max_seq_length 32"
    ).split()
    scores = {
        recipe.main(
            [
                *flags,
                "--per_device_eval_batch_size",
                size,
                "--seed",
                seed,
                "--output_dir",
                f"e{size}_{seed}",
            ]
        )["perplexity"]
        for size, seed in (("1", "1"), ("4", "2"), ("8", "3"), ("23", "4"))
    }
    assert max(scores) - min(scores) < 1e-6 * max(scores)


def test_pipeline_fills_masks(recipe, texts):
    recipe.main([*FILES, *SCRATCH, *SHORT])
    theirs = pipeline("fill-mask", model="out", device="cpu")("the [MASK] was good")
    (ours,) = open_folder("out").answers(["the [MASK] was good"])
    assert list(ours["scores"]) == [answer["token_str"] for answer in theirs]
    assert ours["score"] == pytest.approx(theirs[0]["score"], abs=1e-5)
    assert ours["prediction"] == f"the {theirs[0]['token_str']} was good"
    with pytest.raises(Refusal, match=r"no \[MASK\]"):
        list(open_folder("out").answers(["nothing to fill"]))


@pytest.mark.parametrize(
    "flags",
    [
        ["--line_by_line"],
        ["--line_by_line", "--pad_to_max_length"],
        ["--whole_word_mask", "--mlm_probability", "0.3"],
        ["--streaming"],
        ["--tokenizer_algorithm", "unigram", "--vocab_size", "70"],
        ["--tokenizer_algorithm", "char"],
    ],
    ids=" ".join,
)
def test_other_ways_to_train(flags, recipe, texts):
    metrics = recipe.main(merged(*FILES, *SCRATCH, *SHORT, *flags))
    assert 1 < metrics["perplexity"] < 1000


def test_the_encoder_can_be_fine_tuned(recipe, texts, sentiment):
    recipe.main([*FILES, *SCRATCH, *SHORT])
    rows = [
        {"text": f"the soup was {('good', 'bad')[n % 2]}", "label": ("pos", "neg")[n % 2]}
        for n in range(20)
    ]
    (texts / "labelled.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    flags = [
        *"--model_name_or_path out --train_file labelled.jsonl --output_dir tuned".split(),
        *SHORT,
    ]
    assert 0 <= sentiment.main([*flags, "--max_seq_length", "32"])["eval_accuracy"] <= 1


def test_a_run_killed_in_mid_epoch_goes_on_bit_for_bit(recipe, texts):
    flags = merged(
        *FILES, *SCRATCH, *SHORT, "--max_steps", "8", "--save_steps", "3", "--save_total_limit", "9"
    )
    whole = recipe.main(merged(*flags, "--output_dir", "whole"))
    recipe.main(flags)
    as_if_killed(texts / "out", "checkpoint-3")
    assert recipe.main(flags)["eval_loss"] == whole["eval_loss"]
    first, second = (load_file(f"{folder}/model.safetensors") for folder in ("whole", "out"))
    assert all(torch.equal(first[name], second[name]) for name in first)
