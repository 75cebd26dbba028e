"""The recipe from end to end, on tiny data, and every model family with its own tags, prefix and first token."""

import json

import pytest
import sacrebleu
import transformers
from conftest import LEFT, SHORT, as_if_killed, load_recipe, merged, predictions
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from recipes.common.predict.opening import open_folder
from recipes.common.train.generation import TextGeneration

RECIPE = "translation"
LANGUAGES = ["--source_lang", "en", "--target_lang", "de"]
FILES = [
    *"--train_file train.jsonl --test_file test.jsonl --output_dir out".split(),
    *LANGUAGES,
]
TINY = [
    "--model_type",
    "t5",
    "--config_overrides",
    "d_model=16,d_kv=8,num_heads=2,d_ff=32,num_layers=1",
]
TINY += ["--tokenizer_algorithm", "bpe", "--vocab_size", "300"]
PAIRS = [
    (f"the soup {n} is {a}", f"die Suppe {n} ist {b}")
    for n in range(20)
    for a, b in [("good", "gut"), ("bad", "schlecht")]
]


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(RECIPE)


@pytest.fixture
def pairs(in_tmp_path):
    """train.jsonl and test.jsonl with 36 and 4 pairs."""
    for name, rows in (("train", PAIRS[:36]), ("test", PAIRS[36:])):
        lines = [
            json.dumps({"translation": {"en": source, "de": target}}) + "\n"
            for source, target in rows
        ]
        (in_tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return in_tmp_path


def test_a_run_leaves_the_whole_contract(recipe, pairs):
    metrics = recipe.main([*FILES, *TINY, *SHORT])
    assert {path.name for path in (pairs / "out").iterdir()} >= LEFT
    assert {path.name for path in (pairs / "out/plots").iterdir()} == {
        "learning_curves.png",
        "lengths.png",
    }
    rows = predictions()
    assert [(row["source"], row["reference"]) for row in rows] == PAIRS[36:]
    bleu = sacrebleu.corpus_bleu(
        [row["prediction"] for row in rows], [[row["reference"] for row in rows]]
    )
    assert metrics["predict_bleu"] == bleu.score


def test_every_row_is_answered_without_reference_and_with_an_empty_side(recipe, pairs):
    (pairs / "bare.jsonl").write_text(
        '{"en": "good soup"}\n{"en": ""}\n{"en": "bad soup"}\n', encoding="utf-8"
    )
    metrics = recipe.main(merged(*FILES, *TINY, *SHORT, "--test_file", "bare.jsonl"))
    assert "predict_bleu" not in metrics
    assert [row["source"] for row in predictions()] == ["good soup", "", "bad soup"]
    assert all(
        isinstance(row["prediction"], str) and row["reference"] is None for row in predictions()
    )


def test_batches_of_so_many_tokens_go_on_where_the_run_was_killed(recipe, pairs, capsys):
    flags = [
        *FILES,
        *TINY,
        *SHORT,
        *"--max_steps 9 --save_steps 4 --save_total_limit 9".split(),
    ]
    flags = merged(
        *flags, "--tokens_per_batch", "100", "--gradient_accumulation_steps", "2", "--bf16", "false"
    )
    whole = recipe.main(merged(*flags, "--output_dir", "whole"))
    assert "9 steps of 2 x 100 tokens" in capsys.readouterr().out
    recipe.main(flags)
    as_if_killed(pairs / "out", "checkpoint-4")
    assert recipe.main(flags)["eval_loss"] == whole["eval_loss"]


@pytest.mark.parametrize("form", ["flat.csv", "flat.tsv", "parallel"])
def test_other_forms_of_the_data(form, recipe, pairs):
    if form == "parallel":
        for column, code in enumerate(("en", "de")):
            (pairs / f"corpus.{code}").write_text(
                "".join(pair[column] + "\n" for pair in PAIRS), encoding="utf-8"
            )
        files = ["--train_file", "corpus.en", "corpus.de"]
    else:
        separator = "\t" if form.endswith("tsv") else ","
        lines = [separator.join(pair) + "\n" for pair in [("en", "de"), *PAIRS]]
        (pairs / form).write_text("".join(lines), encoding="utf-8")
        files = ["--train_file", form]
    recipe.main(merged(*FILES, *TINY, *SHORT, *files))
    assert json.loads((pairs / "out/run.json").read_text())["rows"]["train"]["read"] == 40


def test_the_length_of_answers_is_bounded_by_the_training_data(recipe, pairs):
    recipe.main([*FILES, *TINY, *SHORT])
    config = json.loads((pairs / "out/generation_config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained("out")
    longest = max(len(tokenizer(text_target=target)["input_ids"]) for _, target in PAIRS[:36])
    assert longest < config["max_new_tokens"] <= longest + max(4, longest // 4)


@pytest.mark.parametrize("model_type", ["marian", "bart"])
def test_other_architectures_from_scratch(model_type, recipe, pairs):
    sizes = "d_model=16,encoder_layers=1,decoder_layers=1,encoder_attention_heads=2,decoder_attention_heads=2"
    sizes += ",encoder_ffn_dim=32,decoder_ffn_dim=32,max_position_embeddings=64"
    recipe.main(
        merged(*FILES, *TINY, *SHORT, "--model_type", model_type, "--config_overrides", sizes)
    )
    assert len(predictions()) == 4


def test_predict_translates_as_the_run_did(recipe, pairs):
    recipe.main([*FILES, *TINY, *SHORT, "--bf16", "false"])
    answers = list(open_folder("out").answers(source for source, _ in PAIRS[36:]))
    assert [row["prediction"] for row in answers] == [row["prediction"] for row in predictions()]


def test_a_saved_model_is_evaluated_with_the_prefix_that_it_was_trained_with(recipe, pairs):
    trained = recipe.main([*FILES, *TINY, *SHORT, "--max_eval_samples", "4"])
    again = [
        *FILES[:4],
        *LANGUAGES,
        *"--model_name_or_path out --output_dir again --do_predict".split(),
    ]
    assert recipe.main(again)["predict_perplexity"] == pytest.approx(
        trained["predict_perplexity"], 1e-6
    )


def test_a_run_with_early_stopping_and_the_best_model(recipe, pairs):
    flags = (
        "--early_stopping_patience 1 --load_best_model_at_end --max_steps 4 --num_beams 2"
    ).split()
    metrics = recipe.main(merged(*FILES, *TINY, *SHORT, *flags))
    assert json.loads((pairs / "out/generation_config.json").read_text())["num_beams"] == 2
    assert "eval_bleu" in metrics


def test_evaluations_in_training_answer_a_sample_and_the_last_one_every_row(
    recipe, pairs, monkeypatch
):
    answered, write = [], TextGeneration.write

    def counting(self, model, inputs, *rest):
        answered.append(len(inputs["input_ids"]))
        return write(self, model, inputs, *rest)

    monkeypatch.setattr(TextGeneration, "write", counting)
    flags = "--eval_strategy steps --eval_steps 1 --max_steps 2 --interim_eval_samples 3".split()
    metrics = recipe.main(
        merged(*FILES, *TINY, *SHORT, *flags, "--per_device_eval_batch_size", "8")
    )
    assert answered == [
        3,
        3,
        4,
        4,
    ]  # two evaluations in training, then all of validation and of test
    assert metrics["eval_samples"] == len(predictions()) == 4


def test_answers_to_several_batches_are_written_at_once_and_are_those_of_each(
    recipe, pairs, monkeypatch
):
    scored, score = [], transformers.Trainer.prediction_step

    def counting(self, model, inputs, *rest):
        scored.append(len(inputs["input_ids"]))
        return score(self, model, inputs, *rest)

    monkeypatch.setattr(transformers.Trainer, "prediction_step", counting)
    found = []
    for rows in ("1", "8"):
        flags = ["--bf16", "false", "--max_eval_samples", "4", "--output_dir", rows]
        recipe.main(merged(*FILES, *TINY, *SHORT, *flags, "--per_device_eval_batch_size", rows))
        found.append(
            [(row["prediction"], pytest.approx(row["loss"], abs=1e-5)) for row in predictions(rows)]
        )
    assert scored == [1] * 12 + [4] * 3  # in training, of validation, and of test
    assert found[0] == found[1]


def test_adapters(recipe, pairs):
    recipe.main([*FILES, *TINY, *SHORT])
    flags = merged(
        *FILES, *SHORT, "--model_name_or_path", "out", "--lora_rank", "2", "--output_dir", "lora"
    )
    recipe.main([*flags, "--bf16", "false"])
    answers = list(open_folder("lora").answers(source for source, _ in PAIRS[36:]))
    assert [row["prediction"] for row in answers] == [
        row["prediction"] for row in predictions("lora")
    ]
    assert AutoModelForSeq2SeqLM.from_pretrained("lora") is not None
