"""No name of a user's column matters: what the code calls its own may be a text, a label or a target all the same."""

import csv
import json
from pathlib import Path

import pytest
from conftest import SCRATCH, SHORT, load_recipe, merged, predictions
from forked import MODELS

from recipes.common.data.columns import OWN, inner
from recipes.common.predict import opening
from recipes.common.runtime.errors import Refusal

# What this code, tokenizers, models and Trainer call something of theirs.
NAMES = "label labels label_ids row row_id length width truncated input_ids attention_mask".split()
NAMES += "target epoch context text prediction scores loss use_cache return_dict idx".split()
NAMES += (
    "token_type_ids decoder_input_ids inputs_embeds source reference self num_items_in_batch"
).split()
RUN = merged(*SCRATCH, *SHORT, "--max_steps", "1", "--eval_steps", "1", "--save_steps", "1")
WORDS = ["good soup", "bad room", "warm film", "cold shop"]


def table(folder, *columns):
    """t.csv, whose columns are called so: rows of different texts, the last of them the classes a and b."""
    with open(folder / "t.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for number in range(24):
            texts = [f"{WORDS[number % 4]} {place} {number}" for place in range(len(columns) - 1)]
            writer.writerow([*texts, "ab"[number % 2]])
    return ["--train_file", "t.csv", "--test_file", "t.csv", "--output_dir", "out"]


def both_ways(names):
    """Pairs of text column and label column, in which each name is once either."""
    return list(zip(names, [*names[1:], names[0]], strict=True))


def test_texts_may_be_called_anything(sentiment, in_tmp_path):
    """All of them at once; the next test takes them one by one."""
    words = [*table(in_tmp_path, *NAMES, "answer"), "--text_column_names", ",".join(NAMES)]
    sentiment.main([*words, "--label_column_name", "answer", *RUN])
    rows = predictions()
    assert [row["label"] for row in rows] == ["a", "b"] * 12
    assert [rows[3][inner(name)] for name in NAMES] == [
        f"cold shop {n} 3" for n in range(len(NAMES))
    ]
    assert next(opening.open_folder("out").texts(Path("t.csv"))).startswith(
        "good soup 0 0 good soup 1 0"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("text", "label"), both_ways(NAMES))
def test_texts_and_labels_may_be_called_anything(text, label, sentiment, in_tmp_path):
    words = table(in_tmp_path, text, label)
    sentiment.main([*words, "--text_column_names", text, "--label_column_name", label, *RUN])
    rows = predictions()
    assert [row["label"] for row in rows] == ["a", "b"] * 12
    assert rows[3][inner(text)] == "cold shop 0 3"
    assert json.loads(Path("out/run.json").read_text())["text_columns"] == [text]
    assert next(opening.open_folder("out").texts(Path("t.csv"))) == "good soup 0 0"


def test_the_code_s_own_columns_are_known(sentiment, in_tmp_path, monkeypatch):
    """Or a user's column could be called as one of them."""
    seen = []
    monkeypatch.setattr(sentiment.runner, "run", lambda *given: seen.append(given) or {})
    sentiment.main([*table(in_tmp_path, "text", "label"), *RUN])
    trainer, _, _ = seen[0]
    encoded = trainer.tokens
    assert {*encoded.train.column_names, *encoded.test.column_names} - {"text"} <= OWN


# recipe -> the flags that name its columns
FLAGS = {
    "summarization": ("--text_column", "--summary_column"),
    "translation": ("--source_lang", "--target_lang"),
    "token_classification": ("--text_column_name", "--label_column_name"),
}
FLAGS |= {"mlm_pretrain": ("--text_column_name",), "clm_pretrain": ("--text_column_name",)}
SOME = ["labels", "row_id", "length", "input_ids", "epoch"]
CASES = [(recipe, name) for recipe in FLAGS for name in SOME]
CASES = [
    case if case[1] == "labels" else pytest.param(*case, marks=pytest.mark.slow) for case in CASES
]


@pytest.mark.parametrize(("recipe", "name"), CASES)
def test_columns_of_other_recipes_may_be_called_so(recipe, name, in_tmp_path):
    other = SOME[SOME.index(name) - 1]
    columns = (name, other)[: len(FLAGS[recipe])]
    words = [*table(in_tmp_path, *columns, "unused")[:2], *MODELS[recipe], *SHORT]
    words += "--vocab_size 300 --output_dir out --num_train_epochs 1 --bf16 false".split()
    named = [word for pair in zip(FLAGS[recipe], columns, strict=True) for word in pair]
    load_recipe(recipe).main(
        [*merged(*words, "--max_steps", "1", "--eval_steps", "1", "--save_steps", "1"), *named]
    )
    assert len(predictions()) > 0


@pytest.mark.parametrize("names", [("text,text", "label"), ("text", "text"), ("a,b,a", "label")])
def test_a_column_that_is_named_twice_is_refused(names, sentiment, in_tmp_path):
    words = [*table(in_tmp_path, "text", "a", "b", "label"), "--text_column_names", names[0]]
    with pytest.raises(Refusal, match="is named twice"):
        sentiment.main([*words, "--label_column_name", names[1], *RUN])


def test_no_two_columns_get_one_name():
    names = ["labels", "labels (column)", "labels (column) (column)", "text"]
    assert len({*map(inner, names)}) == len(names)
    assert inner("text") == "text"
