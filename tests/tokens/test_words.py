"""Labels of words: reading them beside their words, and giving them to the first pieces."""

import gzip
import json
from types import SimpleNamespace

import pytest
from conftest import SCRATCH, SHORT, load_recipe
from transformers import AutoTokenizer

from recipes.common.data.labels import MISSING
from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.runtime.errors import Refusal
from recipes.common.tokens.words import aligned, first_pieces

FLAGS = SimpleNamespace(pad_to_max_length=False, label_all_tokens=False)
LABELS = SimpleNamespace(names=["B-PER", "I-PER", "O"])
TEXTS = ["the soup was cold", "Ada was here", "the cold soup"] * 5
RECIPE = "token_classification"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, "wordpiece", 60, "bert")


def test_the_first_piece_of_a_word_has_its_label(tokenizer):
    encoded = aligned(tokenizer, 32, FLAGS, LABELS)([["Ada", "soups", "here"]], [[4, 5, 6]])
    words = encoded["word_ids"][0]
    assert (words[0], words[-1]) == (-1, -1) and words.count(1) > 1  # soups: several pieces
    firsts = first_pieces(words)
    assert [encoded["labels"][0][firsts[word]] for word in range(3)] == [4, 5, 6]
    assert encoded["labels"][0].count(MISSING) == len(words) - 3


def test_other_pieces_have_the_label_that_follows(tokenizer):
    """B-PER is followed by I-PER, O by O (run_ner.py's --label_all_tokens)."""
    flags = SimpleNamespace(pad_to_max_length=False, label_all_tokens=True)
    encoded = aligned(tokenizer, 32, flags, LABELS)([["soups", "soups"]], [[0, 2]])
    pieces = encoded["word_ids"][0].count(0)
    assert pieces > 1
    assert encoded["labels"][0][1:-1] == [0, *[1] * (pieces - 1), *[2] * pieces]


def test_rows_without_labels_and_cut_rows(tokenizer):
    encoded = aligned(tokenizer, 4, FLAGS, LABELS)([["the", "cold", "soup", "was"]], None)
    assert encoded["labels"] == [[MISSING] * 4]
    assert [*first_pieces(encoded["word_ids"][0])] == [0, 1]


def test_all_rows_are_padded_where_that_is_asked(tokenizer):
    flags = SimpleNamespace(pad_to_max_length=True, label_all_tokens=False)
    encoded = aligned(tokenizer, 8, flags, LABELS)([["the"]], [[1]])
    assert encoded["labels"][0] == [MISSING, 1, *[MISSING] * 6]
    assert encoded["word_ids"][0] == [-1, 0, *[-1] * 6]


@pytest.mark.parametrize("model_type", ["gpt2", "roberta", "deberta-v2"])
def test_byte_level_bpe_reads_words_as_they_stand_in_a_text(model_type, tmp_path):
    """Also when it is loaded again: run_ner.py loads these with add_prefix_space."""
    tokenizer = train_tokenizer(TEXTS, "bpe", 320, model_type)
    within = tokenizer(" the soup", add_special_tokens=False)["input_ids"]
    aligned(tokenizer, 32, FLAGS, LABELS)
    tokenizer.save_pretrained(tmp_path)
    for own in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        ids = own([["the", "soup"]], is_split_into_words=True, add_special_tokens=False)
        assert ids["input_ids"][0] == within


def test_a_tokenizer_that_knows_no_words_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(Refusal, match="does not tell which word"):
        aligned(tokenizer, 32, FLAGS, LABELS)


def test_rows_are_padded_on_the_right_as_their_labels_are():
    """Llama's tokenizer pads on the left."""
    tokenizer = train_tokenizer(TEXTS, "bpe", 320, "llama")
    tokenizer.padding_side = "left"
    aligned(tokenizer, 32, FLAGS, LABELS)
    assert tokenizer.padding_side == "right"


def test_all_tokens_are_labelled_in_iob_alone(tokenizer):
    flags = SimpleNamespace(pad_to_max_length=False, label_all_tokens=True)
    with pytest.raises(Refusal, match="cannot all be S-PER"):
        aligned(tokenizer, 32, flags, SimpleNamespace(names=["O", "S-PER"]))


def test_other_labels_with_a_hyphen_are_given_to_all_pieces(tokenizer):
    """Parts of speech of the Penn treebank's kin: PRP-SBJ is no prefix and type."""
    flags = SimpleNamespace(pad_to_max_length=False, label_all_tokens=True)
    encode = aligned(tokenizer, 32, flags, SimpleNamespace(names=["S-x", "PRP-SBJ"]))
    labels = encode([["soups"]], [[1]])["labels"][0]
    assert set(labels) == {-100, 1} and labels.count(1) > 1


# --- Reading ---


def row(tokens, tags):
    return json.dumps({"tokens": tokens, "ner_tags": tags}) + "\n"


GOOD = row(["Ada", "sleeps"], ["B-PER", "O"]) + row(["so", "does", "Bo"], ["O", "O", "B-PER"])


@pytest.mark.parametrize(
    ("bad", "expected"),
    {
        row(["Ada", "sleeps"], ["O"]): "2 words and 1 labels",
        row("Ada sleeps", ["O"]): "2 words and 1 labels",
        row(["Ada", 5], ["O", "O"]): "list of words, but one is a int: 5",
        row(["Ada", "so"], ["O", ""]): "a word has no label",
        row(["Ada"], [0.5]): "list of labels, but one is a float: 0.5",
        row(["Ada"], [None]): "list of labels, but one is a NoneType",
        row(7, ["O"]): "must be a list, not int: 7",
        row({"a": 1}, ["O"]): "must be a list, not dict",
        row(["\ud800"], ["O"]): "half a character",
    }.items(),
    ids=str,
)
def test_a_row_that_is_no_sentence_is_refused_with_its_place(bad, expected, labelled):
    with pytest.raises(Refusal, match=expected) as refused:
        labelled(GOOD * 4 + bad)
    assert refused.value.where == "train.jsonl:9"


def test_a_sentence_without_words_or_labels_is_skipped_and_counted(labelled):
    splits = labelled(GOOD * 4 + row([], []) + row(["Ada"], []) + row([" "], ["O"]))
    assert splits.accounting["train"]["skipped"]["empty text"] == 2
    assert splits.accounting["train"]["skipped"]["no label"] == 1


@pytest.mark.parametrize(
    "line",
    [
        row(["Ada", "sleeps"], ["B-PER", "O"]),
        row("Ada sleeps", "B-PER O"),
        row("['Ada', 'sleeps']", "['B-PER', 'O']"),
        row('["Ada", "sleeps"]', '["B-PER", "O"]'),
    ],
)
def test_lists_may_be_spelt_as_csv_files_spell_them(line, labelled):
    splits = labelled(line * 10)
    assert splits.labels.names == ["B-PER", "O"] and splits.labels.counts == [10, 10]
    assert splits.train[0]["tokens"] == ["Ada", "sleeps"] and splits.train[0]["labels"] == [0, 1]


def test_minus_100_is_no_label(labelled):
    """As in data that was aligned before; the classes are not shifted by it."""
    splits = labelled(row(["Ada", "so", "on"], [1, -100, 0]) * 10, ["--class_names", "O", "B-PER"])
    assert splits.labels.names == ["O", "B-PER"] and splits.train[0]["labels"] == [1, -100, 0]


def test_two_columns_of_labels_are_refused(labelled):
    text = json.dumps({"tokens": ["a"], "pos": ["X"], "ner": ["O"]}) + "\n"
    with pytest.raises(Refusal, match="a word has one label, not those of pos and ner"):
        labelled(text * 9, ["--label_column_name", "pos,ner"])


def test_labels_that_look_like_lists_or_numbers_stay_as_they_are(labelled):
    """Parts of speech: the comma's label is a comma."""
    splits = labelled(row(["a", ",", "b"], ["DT", ",", "NN"]) * 10)
    assert splits.labels.names == [",", "DT", "NN"]


def test_a_label_that_only_the_test_set_has_is_warned_of_and_known(in_tmp_path, capsys):
    """Of words a rare label may be in another split; its id is behind those of the training."""
    recipe = load_recipe(RECIPE)
    (in_tmp_path / "train.jsonl").write_text(GOOD * 8)
    (in_tmp_path / "test.jsonl").write_text(row(["Ada", "Lee"], ["B-PER", "I-PER"]))
    words = ["--train_file", "train.jsonl", "--test_file", "test.jsonl", "--output_dir", "out"]
    metrics = recipe.main([*words, *SCRATCH, *SHORT])
    assert "predict_f1" in metrics
    assert "the training data has no I-PER" in capsys.readouterr().err
    names = json.loads((in_tmp_path / "out/config.json").read_text())["label2id"]
    assert names == {"B-PER": 0, "O": 1, "I-PER": 2}


@pytest.mark.parametrize("name", ["eng.train", "eng.testa", "ner.dev", "a.txt.gz"])
def test_files_of_sentences_may_end_as_those_of_conll(name, in_tmp_path, monkeypatch):
    text = "Ada B-PER\nsleeps O\n\n" * 8
    data = gzip.compress(text.encode()) if name.endswith("gz") else text.encode()
    (in_tmp_path / name).write_bytes(data)
    recipe, seen = load_recipe(RECIPE), []
    monkeypatch.setattr(recipe.runner, "run", lambda *given: seen.append(given) or {})
    recipe.main(["--train_file", name, "--output_dir", "out", *SCRATCH])
    assert seen[0][2].train[0]["tokens"] == ["Ada", "sleeps"]


def test_tables_of_words_and_marked_texts_are_read(labelled):
    """Kaggle's table, doccano's texts."""
    marked = json.dumps({"text": "Ada sleeps", "label": [[0, 3, "PER"]]}) + "\n"
    assert labelled(marked * 8).train[0]["labels"] == [0, 1]
    rows = [{"Sentence #": "1", "Word": "Ada", "Tag": "B-per"}]
    rows += [{"Sentence #": "", "Word": "sleeps", "Tag": "O"}, rows[0] | {"Sentence #": "2"}] * 8
    table = "".join(json.dumps(one) + "\n" for one in rows)
    flags = ["--text_column_name", "Word", "--label_column_name", "Tag"]
    assert labelled(table, flags).train[0]["Word"] == ["Ada", "sleeps"]


@pytest.fixture
def labelled(in_tmp_path, monkeypatch):
    """Reads a file as the recipe does; the splits."""
    recipe = load_recipe(RECIPE)

    def read(text, flags=()):
        (in_tmp_path / "train.jsonl").write_text(text, encoding="utf-8")
        seen = []
        monkeypatch.setattr(recipe.runner, "run", lambda *given: seen.append(given) or {})
        recipe.main(["--train_file", "train.jsonl", "--output_dir", "out", *SCRATCH, *flags])
        return seen[0][2]

    return read
