"""A trained folder predicts like pipeline(), in order, from the columns it was trained on."""

import json
from pathlib import Path

import numpy
import pytest
from conftest import SCRATCH, SHORT, load_recipe, predictions
from transformers import pipeline

from recipes.common.predict.labelling import Classifier
from recipes.common.predict.mask_filling import MaskFiller
from recipes.common.predict.opening import open_folder
from recipes.common.runtime.errors import Refusal

TEXTS = [
    "the soup was good",
    "the room",
    "the film number 7 in train was rude and cold",
    "汤很好喝",
    "",
]


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
        assert [answer["prediction"] for answer in answers] == [
            answer["label"] for answer in expected
        ]
        assert numpy.allclose(
            [a["score"] for a in answers], [a["score"] for a in expected], atol=1e-6
        )


def test_texts_of_a_file_come_from_the_columns_of_the_training_data(sentiment, in_tmp_path):
    rows = [{"title": f"t{i}", "body": f"b{i}", "label": i % 2} for i in range(20)]
    (in_tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["--text_column_names", "title,body", "--text_column_delimiter", " | "]
    sentiment.main(
        ["--train_file", "train.jsonl", "--output_dir", "out", *columns, *SCRATCH, *SHORT]
    )
    assert next(Classifier("out").texts(in_tmp_path / "train.jsonl")) == "t0 | b0"
    (in_tmp_path / "other.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(Refusal, match="no column 'title'"):
        list(Classifier("out").texts(in_tmp_path / "other.jsonl"))


def test_pairs_stay_pairs(sentiment, in_tmp_path):
    rows = [{"premise": f"p{i}", "hypothesis": f"h{i}", "label": i % 2} for i in range(20)]
    (in_tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = "--train_file train.jsonl --test_file train.jsonl --output_dir out --bf16 false".split()
    sentiment.main([*flags, *SCRATCH, *SHORT])
    classifier = Classifier("out")
    texts = list(classifier.texts(in_tmp_path / "train.jsonl"))
    assert texts[3] == ("p3", "h3")
    written = [
        json.loads(line)["scores"] for line in (in_tmp_path / "out/predictions.jsonl").open()
    ]
    answers = [answer["scores"] for answer in classifier.answers(texts)]
    assert numpy.allclose([row["1"] for row in written], [row["1"] for row in answers], atol=1e-5)


def test_texts_are_cut_where_the_model_has_no_more_positions(trained):
    config = json.loads(Path(trained, "config.json").read_text(encoding="utf-8"))
    assert config["max_position_embeddings"] == 64
    flags = Path(trained, "run.yaml").read_text(encoding="utf-8")
    Path(trained, "run.yaml").write_text(
        flags.replace("max_seq_length: 32", "max_seq_length: 256"), encoding="utf-8"
    )
    (answer,) = Classifier(trained).answers(["soup " * 500])
    assert answer["prediction"] in ("negative", "positive")


def test_a_mask_behind_the_end_of_the_text_is_refused(in_tmp_path):
    (in_tmp_path / "train.txt").write_text("the soup was good\n" * 40, encoding="utf-8")
    load_recipe("mlm_pretrain").main(
        ["--train_file", "train.txt", "--output_dir", "out", *SCRATCH, *SHORT]
    )
    filler = MaskFiller("out")
    mask = filler.tokenizer.mask_token
    with pytest.raises(Refusal, match="where the text is cut"):
        list(filler.answers([f"the soup was {mask}", "soup " * 100 + mask]))


DECODER = [
    "--model_type",
    "gpt2",
    "--config_overrides",
    "n_embd=16,n_layer=1,n_head=2,n_positions=64",
]
DECODER += ["--vocab_size", "300", "--max_seq_length", "32", "--bf16", "false"]


@pytest.fixture
def decoder(sentiment, reviews):
    """The folder of a GPT-2 trained on the tiny reviews; the test set's third text is empty."""
    rows = (reviews / "test.csv").read_text(encoding="utf-8").splitlines()
    rows[3] = '"",positive'
    (reviews / "test.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    flags = [
        *"--train_file train.csv --test_file test.csv --output_dir out".split(),
        *DECODER,
        *SHORT,
    ]
    sentiment.main(flags)
    return "out"


def without_padding_token(folder):
    """Like a published GPT-2 classifier: tokenizer and configuration know no padding token."""
    for name in ("tokenizer_config.json", "config.json", "special_tokens_map.json"):
        path = Path(folder, name)
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            kept = {
                key: value
                for key, value in content.items()
                if key not in ("pad_token", "pad_token_id")
            }
            path.write_text(json.dumps(kept), encoding="utf-8")


@pytest.mark.parametrize("padding", [True, False], ids=["padding token", "none"])
def test_a_decoder_answers_an_empty_text_the_same_in_every_batch(padding, decoder):
    if not padding:
        without_padding_token(decoder)
    classifier = Classifier(decoder)
    assert classifier.tokenizer("")["input_ids"] == []
    together = list(classifier.answers(["", "the soup was good and the room was cold"]))
    alone = [
        next(classifier.answers([text])) for text in ("", "the soup was good and the room was cold")
    ]
    assert together[0]["score"] >= 0.5
    assert [row["scores"] for row in together] == [
        pytest.approx(row["scores"], abs=1e-5) for row in alone
    ]


def test_an_empty_text_of_the_test_set_is_answered_as_predict_does(decoder):
    written = predictions()
    assert [row["text"] for row in written].count("") == 1
    (answer,) = [row["scores"] for row in written if not row["text"]]
    assert answer == pytest.approx(next(Classifier(decoder).answers([""]))["scores"], abs=1e-5)


def pair_trained(sentiment):
    rows = [{"premise": f"p{i}", "hypothesis": f"h{i}", "label": i % 2} for i in range(20)]
    Path("train.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    sentiment.main(
        ["--train_file", "train.jsonl", "--output_dir", "out", "--bf16", "false", *SCRATCH, *SHORT]
    )
    return Classifier("out")


def test_a_model_of_pairs_takes_two_texts_at_a_time(sentiment, in_tmp_path):
    classifier = pair_trained(sentiment)
    pairs = [("p1", "h1"), ("p2", "h2")]
    assert list(classifier.asked(["p1", "h1", "p2", "h2"], by_lines=False)) == pairs
    assert list(classifier.asked(["p1\th1", "p2", "h2"], by_lines=False)) == pairs
    assert list(classifier.asked(["p1\th1", "p2\th2"], by_lines=True)) == pairs
    Path("pairs.txt").write_text("p1\th1\np2\th2\n", encoding="utf-8")
    assert list(classifier.texts(Path("pairs.txt"))) == pairs
    assert [row["text"] for row in classifier.answers(pairs)] == pairs


@pytest.mark.parametrize(
    ("typed", "by_lines"), [(["p1"], False), (["p1", "h1", "p2"], False), (["p1", "h1"], True)]
)
def test_half_a_pair_is_refused_with_the_columns_and_the_way_out(
    typed, by_lines, sentiment, in_tmp_path
):
    classifier = pair_trained(sentiment)
    with pytest.raises(Refusal, match="reads pairs .premise and hypothesis.") as caught:
        list(classifier.asked(typed, by_lines))
    assert "--file" in caught.value.fix


def test_single_texts_may_hold_tabs(trained):
    assert list(Classifier(trained).asked(["a\tb", "c"], by_lines=False)) == ["a\tb", "c"]


@pytest.mark.parametrize("model_type", ["bart", "xlm"])
def test_a_masked_model_of_another_name_fills_masks(model_type, in_tmp_path):
    (in_tmp_path / "train.txt").write_text("the soup was good\n" * 40, encoding="utf-8")
    sizes = "d_model=16,encoder_layers=1,decoder_layers=1"
    sizes += ",encoder_attention_heads=2,decoder_attention_heads=2"
    sizes = {"xlm": "emb_dim=16,n_layers=1,n_heads=2"}.get(model_type, sizes)
    words = [
        "--model_type",
        model_type,
        "--config_overrides",
        sizes,
        *"--vocab_size 300 --max_seq_length 32".split(),
    ]
    load_recipe("mlm_pretrain").main(
        ["--train_file", "train.txt", "--output_dir", "out", *words, *SHORT]
    )
    filler = open_folder("out")
    assert isinstance(filler, MaskFiller)
    assert list(filler.answers([f"the soup {filler.tokenizer.mask_token}"]))[0]["scores"]


def test_a_folder_without_a_model_is_refused(in_tmp_path):
    with pytest.raises(Refusal, match="no folder absent"):
        Classifier("absent")
    (in_tmp_path / "out/checkpoint-7").mkdir(parents=True)
    with pytest.raises(Refusal, match="no folder out/checkpoint-14") as refused:
        Classifier("out/checkpoint-14")
    assert "out/checkpoint-7" in refused.value.fix
    with pytest.raises(Refusal, match="out holds no trained model"):
        Classifier("out")
