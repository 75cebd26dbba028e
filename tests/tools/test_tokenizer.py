"""A tokenizer trained by the command line, and the report of how well it fits."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from recipes.common.runtime.errors import Refusal
from tools import tokenizer


@pytest.fixture
def corpus(in_tmp_path):
    (in_tmp_path / "corpus.txt").write_text(
        "the soup was good\nthe soup was cold\n汤很好\n" * 20, encoding="utf-8"
    )
    return in_tmp_path


def train(file, *settings, **more):
    return tokenizer.train([file], "text", Path("tok"), tokenizer.Settings(*settings, **more))


@pytest.mark.parametrize(
    ("algorithm", "size"), [("wordpiece", 60), ("bpe", 300), ("unigram", 45), ("char", 60)]
)
def test_it_is_saved_and_reported(algorithm, size, corpus):
    found = train("corpus.txt", size, "bert", algorithm)
    loaded = AutoTokenizer.from_pretrained("tok")
    assert len(loaded) == found["vocab_size"] <= size
    assert found["unknown_share"] == 0
    lines = (corpus / "corpus.txt").read_text(encoding="utf-8").splitlines()
    assert found["tokens"] == sum(
        len(loaded(line, add_special_tokens=False)["input_ids"]) for line in lines
    )
    size_in_bytes = sum(len(line.encode()) for line in lines)
    assert found["bytes_per_token"] == pytest.approx(size_in_bytes / found["tokens"], abs=1e-3)
    assert "bytes/token" in tokenizer.render(found, corpus / "tok")


def test_characters_keep_spaces_and_line_breaks(corpus):
    (corpus / "two.jsonl").write_text('{"text": "a b\\nc"}\n', encoding="utf-8")
    train("two.jsonl", 20, "gpt2", "char")
    loaded = AutoTokenizer.from_pretrained("tok")
    ids = loaded("a b\nc")["input_ids"]
    assert len(ids) == 5 and loaded.decode(ids) == "a b\nc"


def test_rare_characters_go_where_the_vocabulary_ends(corpus):
    (corpus / "rare.txt").write_text("aaabbc\n", encoding="utf-8")
    found = train("rare.txt", 5, "gpt2", "char")
    assert found["unknown_share"] == pytest.approx(1 / 6, abs=1e-6)


def test_a_missing_column_is_refused(corpus):
    (corpus / "rows.jsonl").write_text('{"body": "a"}\n', encoding="utf-8")
    with pytest.raises(Refusal, match="no text in column 'text'"):
        train("rows.jsonl", 300)


@pytest.mark.parametrize(
    ("model_type", "algorithm"), [("gpt2", "bpe"), ("llama", "bpe"), ("bert", "wordpiece")]
)
def test_without_an_algorithm_the_family_decides_and_the_report_says_what_comes_back(
    model_type, algorithm, corpus
):
    (corpus / "code.jsonl").write_text('{"text": "def Soup():\\n    return 1"}\n', encoding="utf-8")
    found = train("code.jsonl", 300, model_type)
    assert (found["algorithm"], found["round_trip_share"]) == (algorithm, 1)
    words = "as it was" if algorithm == "bpe" else "but for its spaces"
    assert f"gives back      100.0% of the text {words}\n" in tokenizer.render(
        found, corpus / "tok"
    )


def test_lower_case_is_a_flag(corpus):
    (corpus / "capitals.txt").write_text("The SOUP\n" * 9, encoding="utf-8")
    train("capitals.txt", 300, do_lower_case=True)
    loaded = AutoTokenizer.from_pretrained("tok")
    assert loaded.decode(loaded("The SOUP")["input_ids"]) == "the soup"


@pytest.mark.parametrize(
    ("settings", "where", "fix"),
    [
        ({"algorithm": "nope"}, "--algorithm", "choose one of wordpiece, bpe, unigram, char"),
        ({"algorithm": "bep"}, "--algorithm", "did you mean bpe?"),
        ({"algorithm": ""}, "--algorithm", "choose one of"),
        ({"model_type": "lama"}, "--model_type", "did you mean llama?"),
    ],
)
def test_an_unknown_algorithm_or_architecture_is_refused_before_any_text_is_read(
    settings, where, fix, corpus
):
    with pytest.raises(Refusal, match="unknown") as refused:
        train("absent.txt", **settings)
    assert refused.value.where == where
    assert fix in refused.value.fix
