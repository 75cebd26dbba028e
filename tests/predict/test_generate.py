"""Texts that go on from prompts: the settings of generation, files of prompts, forbidden words."""

import json

import pytest
from conftest import SCRATCH, merged
from conftest import SHORT as sentiment_steps
from test_clm_pretrain import FILES, SHORT, TINY
from transformers import BertConfig, BertLMHeadModel

from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.predict.continuing import Continuer
from recipes.common.runtime.errors import Refusal
from tools import generate
from tools.generate import Settings, run

GREEDY = {"max_new_tokens": 6, "do_sample": False, "num_beams": 1, "num_return_sequences": 1}
DRAWN = GREEDY | {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


@pytest.fixture
def trained(texts):
    from conftest import load_recipe

    load_recipe("clm_pretrain").main(merged(*FILES, *TINY, *SHORT))
    return texts


def write(folder, model=GREEDY, prompts=("the soup",), seed=1, file=None, forbidden=None):
    output = folder / "written.jsonl"
    run(Settings("out", list(prompts), file, output, forbidden, seed, False, model))
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def test_a_text_goes_on_from_its_prompt(trained):
    (row,) = write(trained)
    assert row["text"].startswith("the soup") and len(row["text"]) > len("the soup")


def test_several_texts_of_several_prompts_by_seed(trained):
    settings = DRAWN | {"num_return_sequences": 3}
    rows = write(trained, settings, ["the soup", "the film"])
    assert [(row["prompt_id"], row["sample"]) for row in rows] == [
        (p, s) for p in (0, 1) for s in (0, 1, 2)
    ]
    assert len({row["text"] for row in rows}) > 2
    assert write(trained, settings, ["the soup", "the film"]) == rows
    assert write(trained, settings, ["the soup", "the film"], seed=2) != rows


def test_prompts_from_a_file(trained):
    (trained / "prompts.jsonl").write_text(
        '{"prompt": "the room"}\n{"prompt": ""}\n', encoding="utf-8"
    )
    rows = write(trained, prompts=(), file=trained / "prompts.jsonl")
    assert [row["prompt"] for row in rows] == ["the room", ""]


def test_the_limits_of_length_and_repetition(trained):
    lengths = {"max_new_tokens": 20, "min_new_tokens": 20}
    (row,) = write(trained, GREEDY | lengths)
    (varied,) = write(trained, GREEDY | lengths | {"no_repeat_ngram_size": 1})
    (penalised,) = write(trained, GREEDY | lengths | {"repetition_penalty": 1.5})
    assert len({row["text"], varied["text"], penalised["text"]}) > 1
    (short,) = write(trained, GREEDY | {"max_new_tokens": 1})
    assert row["text"].startswith(short["text"]) and len(row["text"]) > len(short["text"])


def test_forbidden_words_are_not_written(trained):
    (row,) = write(trained, GREEDY | {"max_new_tokens": 1})
    written = row["text"].removeprefix("the soup")
    (trained / "forbidden.txt").write_text(written.strip() + "\n", encoding="utf-8")
    (again,) = write(trained, GREEDY | {"max_new_tokens": 1}, forbidden=trained / "forbidden.txt")
    assert again["text"] != row["text"]


def test_what_was_written_in_another_casing_is_said(trained, capsys):
    """The word is forbidden as it stands, and after a space."""
    (row,) = write(trained, GREEDY | {"max_new_tokens": 30})
    word = next(word for word in row["text"].removeprefix("the soup").split() if word.isalpha())
    (trained / "forbidden.txt").write_text(word.upper() + "\n", encoding="utf-8")
    (again,) = write(trained, GREEDY | {"max_new_tokens": 30}, forbidden=trained / "forbidden.txt")
    assert again["text"] == row["text"]
    assert f"forbids only the usual spellings; written in another one: {word.upper()} 1" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "text", "held"),
    [
        (["art"], "Art is long", ["art"]),
        (["art"], "a start", []),
        (["汤"], "这家餐厅的汤很好喝", ["汤"]),
        (["c++", "soup"], "C++ and SOUP!", ["c++", "soup"]),
    ],
)
def test_a_word_is_found_in_a_text_in_any_casing(words, text, held):
    assert generate._contained(words, text) == held


def test_a_file_without_words_is_refused(trained):
    (trained / "words.csv").write_text("word,other\nsoup,1\n", encoding="utf-8")
    with pytest.raises(Refusal, match="no column text"):
        write(trained, forbidden=trained / "words.csv")


def test_a_model_that_goes_on_from_nothing_is_refused(sentiment, reviews):
    sentiment.main(["--train_file", "train.csv", "--output_dir", "out", *SCRATCH, *sentiment_steps])
    with pytest.raises(Refusal, match="continues no prompt"):
        write(reviews)


def test_the_folder_of_what_is_written_need_not_be_there(trained):
    run(Settings("out", ["the soup"], None, trained / "new/written.jsonl", None, 1, False, GREEDY))
    assert (trained / "new/written.jsonl").is_file()


def test_tokens_are_shown_as_they_come(trained, capsys):
    run(Settings("out", ["the soup"], None, None, None, 1, False, GREEDY))
    assert capsys.readouterr().out.startswith("the soup")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": GREEDY | {"num_return_sequences": 2}}, "would be the same"),
        (
            {"model": GREEDY | {"num_beams": 2, "num_return_sequences": 4}},
            "2 beams cannot give 4 texts",
        ),
        (
            {"model": GREEDY | {"min_new_tokens": 9, "max_new_tokens": 5}},
            "--min_new_tokens 9 is more than --max_new_tokens 5",
        ),
        ({"model": GREEDY | {"max_new_tokens": 500}}, "exceed 64 positions"),
        ({"forbidden": "absent.txt"}, "no such file"),
        ({"prompts": (), "file": "absent.txt"}, "no such file"),
    ],
)
def test_what_cannot_be_written_is_refused(options, message, trained):
    with pytest.raises(Refusal, match=message):
        write(trained, **options)


def test_a_prompt_that_is_too_long_is_found_before_anything_is_written(trained):
    with pytest.raises(Refusal, match=r"exceed 64 positions: 'soup soup"):
        write(trained, GREEDY | {"max_new_tokens": 10}, prompts=("the soup", "soup " * 100))
    assert not list(trained.glob("written*"))


def test_a_file_of_no_words_forbids_nothing(trained):
    (trained / "blank.txt").write_text("\n", encoding="utf-8")
    assert write(trained, forbidden=trained / "blank.txt") == write(trained)


def test_a_model_that_reads_both_sides_of_a_word_is_warned_of(in_tmp_path, capsys):
    tokenizer = train_tokenizer(["the soup was good"] * 9, "wordpiece", 100, "bert")
    tokenizer.save_pretrained("out")
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    for is_decoder in (False, True):
        config = BertConfig(vocab_size=len(tokenizer), is_decoder=is_decoder, **sizes)
        BertLMHeadModel(config).save_pretrained("out")
        Continuer("out")
        assert ("sees the words on both sides" in capsys.readouterr().err) is not is_decoder
