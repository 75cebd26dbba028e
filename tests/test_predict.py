"""A trained folder answers new texts like pipeline(), in order, from the columns it was trained on."""

import json
from pathlib import Path

import numpy
import pytest
from conftest import SCRATCH, SHORT, load_recipe
from transformers import pipeline

from recipes.common.errors import Refusal
from recipes.common.predict import Classifier, MaskFiller

TEXTS = ["the soup was good", "the room", "the film number 7 in train was rude and cold", "汤很好喝", ""]


@pytest.fixture
def trained(sentiment, reviews):
    """The folder of a run on the tiny reviews."""
    sentiment.main(["--train_file", "train.csv", "--output_dir", "out", *SCRATCH, *SHORT])
    return "out"


def test_answers_are_those_of_pipeline_in_order_for_any_batch_size(trained):
    expected = pipeline("text-classification", model=trained, device="cpu")(TEXTS)
    for batch_size in (1, 2, 5):
        answers = list(Classifier(trained).answers(TEXTS, batch_size))
        assert [answer["text"] for answer in answers] == TEXTS
        assert [answer["prediction"] for answer in answers] == [answer["label"] for answer in expected]
        assert numpy.allclose([a["score"] for a in answers], [a["score"] for a in expected], atol=1e-6)


def test_texts_of_a_file_come_from_the_columns_of_the_training_data(sentiment, in_tmp_path):
    rows = [{"title": f"t{i}", "body": f"b{i}", "label": i % 2} for i in range(20)]
    (in_tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["--text_column_names", "title,body", "--text_column_delimiter", " | "]
    sentiment.main(["--train_file", "train.jsonl", "--output_dir", "out", *columns, *SCRATCH, *SHORT])
    assert next(Classifier("out").texts(in_tmp_path / "train.jsonl")) == "t0 | b0"
    (in_tmp_path / "other.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(Refusal, match="no column 'title'"):
        list(Classifier("out").texts(in_tmp_path / "other.jsonl"))


def test_pairs_stay_pairs(sentiment, in_tmp_path):
    rows = [{"premise": f"p{i}", "hypothesis": f"h{i}", "label": i % 2} for i in range(20)]
    (in_tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--train_file", "train.jsonl", "--test_file", "train.jsonl", "--output_dir", "out", "--bf16", "false"]
    sentiment.main([*flags, *SCRATCH, *SHORT])
    classifier = Classifier("out")
    texts = list(classifier.texts(in_tmp_path / "train.jsonl"))
    assert texts[3] == ("p3", "h3")
    written = [json.loads(line)["scores"] for line in (in_tmp_path / "out/predictions.jsonl").open()]
    answers = [answer["scores"] for answer in classifier.answers(texts)]
    assert numpy.allclose([row["1"] for row in written], [row["1"] for row in answers], atol=1e-5)


def test_texts_are_cut_where_the_model_has_no_more_positions(trained):
    config = json.loads(Path(trained, "config.json").read_text(encoding="utf-8"))
    assert config["max_position_embeddings"] == 64
    flags = Path(trained, "run.yaml").read_text(encoding="utf-8")
    Path(trained, "run.yaml").write_text(flags.replace("max_seq_length: 32", "max_seq_length: 256"), encoding="utf-8")
    (answer,) = Classifier(trained).answers(["soup " * 500])
    assert answer["prediction"] in ("negative", "positive")


def test_a_mask_behind_the_end_of_the_text_is_refused(in_tmp_path):
    (in_tmp_path / "train.txt").write_text("the soup was good\n" * 40, encoding="utf-8")
    load_recipe("mlm_pretrain").main(["--train_file", "train.txt", "--output_dir", "out", *SCRATCH, *SHORT])
    filler = MaskFiller("out")
    mask = filler.tokenizer.mask_token
    with pytest.raises(Refusal, match="where the text is cut"):
        list(filler.answers([f"the soup was {mask}", "soup " * 100 + mask]))


def test_a_folder_without_a_model_is_refused(in_tmp_path):
    with pytest.raises(Refusal, match="holds no trained model"):
        Classifier("absent")
