"""The recipe from end to end, on tiny data: English and Chinese, columns by name, every row answered."""

import json

import pytest
from conftest import LEFT, SHORT, load_recipe, merged, predictions

from recipes.common.metrics import generated_text
from recipes.common.predict.opening import open_folder

RECIPE = "summarization"
FILES = ["--train_file", "train.jsonl", "--test_file", "test.jsonl", "--output_dir", "out"]
TINY = [
    "--model_type",
    "t5",
    "--config_overrides",
    "d_model=16,d_kv=8,num_heads=2,d_ff=32,num_layers=1",
]
TINY += ["--tokenizer_algorithm", "bpe", "--vocab_size", "300"]
ROWS = [
    (f"On day {n} it rained. The soup was {w}. We left.", f"The soup was {w}.")
    for n in range(20)
    for w in ("ok", "bad")
]


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(RECIPE)


def write(path, rows, columns=("document", "summary")):
    lines = [
        json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n" for row in rows
    ]
    path.write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def documents(in_tmp_path):
    """train.jsonl and test.jsonl with 36 and 4 rows."""
    write(in_tmp_path / "train.jsonl", ROWS[:36])
    write(in_tmp_path / "test.jsonl", ROWS[36:])
    return in_tmp_path


def test_a_run_leaves_the_whole_contract(recipe, documents):
    metrics = recipe.main([*FILES, *TINY, *SHORT])
    assert {path.name for path in (documents / "out").iterdir()} >= LEFT
    rows = predictions()
    assert [(row["source"], row["reference"]) for row in rows] == ROWS[36:]
    scores = generated_text.rouge_scores(
        [row["prediction"] for row in rows], [row["reference"] for row in rows]
    )
    assert metrics["predict_rougeL"] == pytest.approx(scores["rougeL"])
    # the lead of three sentences holds the summary: 4 of 10 words or so; the first sentence shares none
    assert metrics["predict_lead3_rougeL"] > metrics["predict_lead1_rougeL"] == 0
    assert metrics["predict_baseline_rougeL"] == metrics["predict_lead3_rougeL"]


def test_known_columns_are_found(recipe, documents):
    write(documents / "news.jsonl", ROWS, ("article", "highlights"))
    recipe.main(
        merged(*FILES[:2], "--train_file", "news.jsonl", "--output_dir", "out", *TINY, *SHORT)
    )
    record = json.loads((documents / "out/run.json").read_text())
    assert (record["text_columns"], record["target_column"]) == (["article"], "highlights")


def test_chinese(recipe, documents):
    rows = [
        (f"第{n}天下雨。汤很{w}。我们走了。", f"汤很{w}。") for n in range(20) for w in ("好", "差")
    ]
    write(documents / "zh.jsonl", rows)
    flags = merged(*FILES, *TINY, *SHORT, "--train_file", "zh.jsonl", "--test_file", "zh.jsonl")
    assert recipe.main(flags)["predict_baseline_rouge1"] > 20


def test_every_row_is_answered_without_reference_and_with_an_empty_side(recipe, documents):
    (documents / "bare.jsonl").write_text(
        '{"document": "It rained."}\n{"document": ""}\n', encoding="utf-8"
    )
    metrics = recipe.main(merged(*FILES, *TINY, *SHORT, "--test_file", "bare.jsonl"))
    assert "predict_rougeL" not in metrics
    assert [row["source"] for row in predictions()] == ["It rained.", ""]


def test_long_texts_are_cut_and_the_share_is_told(recipe, documents, capsys):
    recipe.main([*FILES, *TINY, *SHORT, "--max_source_length", "8"])
    assert "100.0% truncated" in capsys.readouterr().out


def test_predict_summarizes_as_the_run_did(recipe, documents):
    recipe.main([*FILES, *TINY, *SHORT, "--bf16", "false"])
    answers = list(open_folder("out").answers(text for text, _ in ROWS[36:]))
    assert [row["prediction"] for row in answers] == [row["prediction"] for row in predictions()]
