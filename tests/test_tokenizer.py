"""A tokenizer trained by the command line, and the report of how well it fits."""

import pytest
from transformers import AutoTokenizer

from recipes.common.errors import Refusal
from tools import tokenizer


@pytest.fixture
def corpus(in_tmp_path):
    (in_tmp_path / "corpus.txt").write_text("the soup was good\nthe soup was cold\n汤很好\n" * 20, encoding="utf-8")
    return in_tmp_path


@pytest.mark.parametrize(("algorithm", "size"), [("wordpiece", 60), ("bpe", 300), ("unigram", 45), ("char", 60)])
def test_it_is_saved_and_reported(algorithm, size, corpus):
    found = tokenizer.train(["corpus.txt"], algorithm, size, "bert", "text", corpus / "tok")
    loaded = AutoTokenizer.from_pretrained("tok")
    assert len(loaded) == found["vocab_size"] <= size
    assert found["unknown_share"] == 0
    lines = (corpus / "corpus.txt").read_text(encoding="utf-8").splitlines()
    assert found["tokens"] == sum(len(loaded(line, add_special_tokens=False)["input_ids"]) for line in lines)
    size_in_bytes = sum(len(line.encode()) for line in lines)
    assert found["bytes_per_token"] == pytest.approx(size_in_bytes / found["tokens"], abs=1e-3)
    assert "bytes/token" in tokenizer.render(found, corpus / "tok")


def test_characters_keep_spaces_and_line_breaks(corpus):
    (corpus / "two.jsonl").write_text('{"text": "a b\\nc"}\n', encoding="utf-8")
    tokenizer.train(["two.jsonl"], "char", 20, "gpt2", "text", corpus / "tok")
    loaded = AutoTokenizer.from_pretrained("tok")
    ids = loaded("a b\nc")["input_ids"]
    assert len(ids) == 5 and loaded.decode(ids) == "a b\nc"


def test_rare_characters_go_where_the_vocabulary_ends(corpus):
    (corpus / "rare.txt").write_text("aaabbc\n", encoding="utf-8")
    found = tokenizer.train(["rare.txt"], "char", 5, "gpt2", "text", corpus / "tok")
    assert found["unknown_share"] == pytest.approx(1 / 6, abs=1e-6)


def test_a_missing_column_is_refused(corpus):
    (corpus / "rows.jsonl").write_text('{"body": "a"}\n', encoding="utf-8")
    with pytest.raises(Refusal, match="no text in column 'text'"):
        tokenizer.train(["rows.jsonl"], "bpe", 300, "gpt2", "text", corpus / "tok")
