"""Sentences of labelled words from tables of words, and from texts with marked places."""

import json

import pytest

from recipes.common.data import word_tables
from recipes.common.runtime.errors import Refusal


def sentences(*rows):
    numbered = iter(list(enumerate(map(dict, rows), 1)))
    return list(word_tables.sentences(numbered, "row {}".format))


def test_kaggle_s_table_says_where_a_sentence_begins():
    rows = [
        {"Sentence #": "Sentence: 1", "Word": "Ada", "POS": "NNP", "Tag": "B-per"},
        {"Sentence #": "", "Word": "sleeps", "POS": "VBZ", "Tag": "O"},
        {"Sentence #": "Sentence: 2", "Word": "So", "POS": "RB", "Tag": "O"},
    ]
    assert sentences(*rows) == [
        (1, {"Word": ["Ada", "sleeps"], "POS": ["NNP", "VBZ"], "Tag": ["B-per", "O"]}),
        (3, {"Word": ["So"], "POS": ["RB"], "Tag": ["O"]}),
    ]


def test_or_a_column_numbers_each_row():
    rows = [
        {"sentence_id": number, "token": word, "tag": "O"}
        for number, word in [(0, "a"), (0, "b"), (1, "c")]
    ]
    assert [row["token"] for _, row in sentences(*rows)] == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    "spans",
    [
        {"label": [[0, 3, "PER"], [14, 22, "LOC"]]},  # doccano
        {"entities": [{"start": 0, "end": 3, "label": "PER"}, {"start": 14, "end": 22, "label": "LOC"}]},
        {"spans": [{"start": 0, "end": 3, "label": "PER"}, {"start": 14, "end": 22, "label": "LOC"}]},  # Prodigy
        {"label": [{"start": 0, "end": 3, "labels": ["PER"]}, {"start": 14, "end": 22, "labels": ["LOC"]}]},
    ],
)  # fmt: skip
def test_marked_places_are_labels_of_words(spans):
    ((_, row),) = sentences({"id": 7, "text": "Ada sleeps in New York.", **spans})
    assert row["tokens"] == ["Ada", "sleeps", "in", "New", "York", "."]
    assert row["tags"] == ["B-PER", "O", "O", "B-LOC", "I-LOC", "O"]
    assert row["id"] == 7


def test_chinese_characters_are_words():
    ((_, row),) = sentences({"text": "王明住在白河。", "label": [[0, 2, "PER"], [4, 6, "LOC"]]})
    assert row["tokens"] == list("王明住在白河。")
    assert row["tags"] == ["B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "O"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ฉันกิน", ["ฉั", "น", "กิ", "น"]),  # a vowel sign belongs to the letter before it
        ("すしを", ["す", "し", "を"]),
        ("𠮷野", ["𠮷", "野"]),  # beyond the first 65,536 characters of Unicode
    ],
)
def test_each_character_of_a_script_without_spaces_is_a_word(text, expected):
    assert [text[start:end] for start, end in word_tables.words(text)] == expected


def test_a_text_without_places_has_no_entity():
    rows = [{"text": "Ada", "label": [[0, 3, "PER"]]}, {"text": "so so", "label": []}]
    assert sentences(*rows)[1] == (2, {"tokens": ["so", "so"], "tags": ["O", "O"]})


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ([0, 99, "PER"], "0 to 99 is not in the text of 10"),
        ([3, 3, "PER"], "3 to 3 is not in the text"),
        ([0, 2], "not a marked place"),
        ([1, 2, "LOC"], "two marked places share 'Ada'"),
    ],
)
def test_places_that_cannot_be_are_refused(span, expected):
    with pytest.raises(Refusal, match=expected) as refused:
        sentences({"text": "Ada sleeps", "label": [[0, 3, "PER"], span]})
    assert refused.value.where == "row 1"


def test_sentences_come_as_they_are():
    row = {"tokens": ["Ada"], "ner_tags": ["B-PER"]}
    assert sentences(row) == [(1, row)]
    assert sentences({"text": "good", "label": "pos"}) == [(1, {"text": "good", "label": "pos"})]
    assert json.dumps(sentences()) == "[]"


def test_whole_sentences_with_a_number_stay_whole():
    row = {"sentence_id": "0", "tokens": "Ada lives in Rome", "tags": "B-PER O O B-LOC"}
    assert sentences(row, row) == [(1, row), (2, row)]


def test_a_table_of_words_that_does_not_say_where_sentences_begin_is_refused():
    with pytest.raises(Refusal, match="no column says where a sentence begins"):
        sentences({"word": "Ada", "tag": "B-PER"}, {"word": "sleeps", "tag": "O"})


def test_a_row_without_the_sentence_s_column_continues_it():
    rows = [{"sentence_id": 1, "word": "Ada", "tag": "O"}, {"word": "sleeps", "tag": "O"}]
    assert sentences(*rows) == [(1, {"word": ["Ada", "sleeps"], "tag": ["O", "O"]})]


@pytest.mark.parametrize("row", [{"text": 5, "label": []}, {"text": "Ada", "label": 5}])
def test_marked_texts_of_other_kinds_are_refused(row):
    with pytest.raises(Refusal, match="'text' must be a text"):
        sentences({"text": "Ada", "label": [[0, 3, "PER"]]}, row)


@pytest.mark.parametrize("text", ["हिन्दी", "Cafe\u0301", "don't", "Jean-Luc", "naïve"])
def test_accents_and_vowel_signs_are_parts_of_words(text):
    assert word_tables.words(text) == [(0, len(text))]
