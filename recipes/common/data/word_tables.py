"""Makes sentences of labelled words from other ways to write them.

- A table with one word per row, whose sentences a column numbers (Kaggle's "Sentence #").
- A text with marked places, as doccano, Prodigy and Label Studio write them:
  {"text": "Ada sleeps", "label": [[0, 3, "PER"]]}.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

from recipes.common.data.entity_labels import BEGIN, INSIDE, OUTSIDE, TAGS, TOKENS
from recipes.common.data.writing_systems import UNSPACED_RANGES
from recipes.common.runtime.errors import Refusal

Row = dict[str, Any]
Numbered = Iterator[tuple[int, Row]]
SENTENCE = re.compile(r"(sentence|sent)[ _]?(#|id|idx|no|number)?", re.IGNORECASE)
WORD = re.compile(r"(word|token)s?", re.IGNORECASE)
TEXT = "text"  # the column of a text with marked places
SPANS = ("label", "labels", "entities", "spans", "ner")  # the names of the column of the places
# What continues a letter: accents that are characters of their own, vowel signs of Indian scripts.
MARKS = "".join(
    chr(code) for code in range(0x300, 0x3000) if unicodedata.category(chr(code))[0] == "M"
)
LETTERS = rf"(?:[^\W_][{MARKS}]*)+"
# A character of a script without spaces, a word, or a punctuation mark.
PARTS = re.compile(rf"[{UNSPACED_RANGES}][{MARKS}]*|{LETTERS}(?:[-'’]{LETTERS})*|\S[{MARKS}]*")
ROWS = 20  # by which a table with one word per row is known


def sentences(rows: Numbered, place: Callable[[int], str]) -> Numbered:
    """Yields sentences: joins rows of one word each, and splits marked texts into words.

    Rows that are sentences already stay as they are.
    """
    first = list(islice(rows, ROWS))
    if not first:
        return
    whole = chain(first, rows)
    if all(_is_one_word(row) for _, row in first):
        sentence = _sentence_column(first[0][1])
        if not sentence and len(first) > 1:
            what = "each row holds one word, and no column says where a sentence begins"
            fix = "add a column sentence_id; or write one word per line, and empty lines between"
            raise Refusal(what, place(first[0][0]), fix)
        if sentence:
            yield from _joined(whole, sentence)
            return
    spans = _span_column(first[0][1])
    for number, row in whole:
        yield number, _as_words(row, spans, place(number)) if spans else row


def words(text: str) -> list[tuple[int, int]]:
    """Returns where the words and punctuation marks of a text begin and end."""
    return [found.span() for found in PARTS.finditer(text)]


def _is_one_word(row: Row) -> bool:
    """Whether a row of a table holds one word and what belongs to it."""
    cells = [row[name] for name in row if WORD.fullmatch(name.strip())]
    if len(cells) != 1 or any(isinstance(cell, list | dict) for cell in row.values()):
        return False
    others = [str(row[name]).strip() for name in row if not _is_sentence(name)]
    return isinstance(cells[0], str) and not any(" " in cell for cell in others)


def _is_sentence(name: str) -> bool:
    return SENTENCE.fullmatch(name.strip()) is not None


def _sentence_column(row: Row) -> str:
    """Returns the column that numbers the sentences of a table with one word per row."""
    return next(filter(_is_sentence, row), "")


def _joined(rows: Numbered, sentence: str) -> Numbered:
    """Yields one row per sentence: for each column the list of its cells.

    A sentence begins where its column has a new value. Kaggle's table writes it in one row only.
    """
    start, before, joined = 0, None, dict[str, list[Any]]()
    for number, row in rows:
        name = row.pop(sentence, None)
        is_new = name not in (None, "", before)
        if is_new and joined:
            yield start, joined
        if is_new:
            start, before, joined = number, name, {column: [] for column in row}
        for column, cell in row.items():
            joined.setdefault(column, []).append(cell)
    if joined:
        yield start, joined


def _span_column(row: Row) -> str:
    """Returns the column of the marked places, where a row is a text with such places."""
    if not isinstance(row.get(TEXT), str):
        return ""
    for name in SPANS:
        value = row.get(name)
        if isinstance(value, list) and (not value or _span(value[0])):
            return name
    return ""


def _span(value: Any) -> tuple[int, int, str] | None:
    """Returns beginning, end and label of a marked place; None for anything else."""
    if isinstance(value, dict):
        label = value.get("label", value.get("labels"))
        value = [
            value.get("start"),
            value.get("end"),
            *(label if isinstance(label, list) else [label]),
        ]
    if not isinstance(value, list) or len(value) != 3:
        return None
    start, end, label = value
    are_places = isinstance(start, int) and isinstance(end, int)
    return (start, end, label) if are_places and isinstance(label, str) else None


def _as_words(row: Row, column: str, where: str) -> Row:
    """Returns the words of a text with a label for each, B- at the beginning of a marked place."""
    text, marked = row.get(TEXT) or "", row.get(column) or []
    if not isinstance(text, str) or not isinstance(marked, list):
        what = f"{TEXT!r} must be a text, and {column!r} a list of its marked places"
        raise Refusal(what, where, 'write [start, end, "LABEL"] for each place')
    found = words(text)
    labels = [OUTSIDE] * len(found)
    for value in marked:
        span = _span(value)
        if span is None:
            raise Refusal(f"not a marked place: {value}", where, 'write [start, end, "LABEL"]')
        _mark(found, labels, span, text, where)
    others = {name: value for name, value in row.items() if name not in (TEXT, column)}
    tokens = [text[start:end] for start, end in found]
    return {**others, TOKENS: tokens, TAGS: labels}


def _mark(
    places: list[tuple[int, int]],
    labels: list[str],
    span: tuple[int, int, str],
    text: str,
    where: str,
) -> None:
    """Labels the words of a marked place; refuses places outside the text, and two in one word."""
    start, end, label = span
    if not 0 <= start < end <= len(text):
        what = f"the place {start} to {end} is not in the text of {len(text)} characters"
        raise Refusal(what, where, "count characters from 0; the end is behind the last one")
    inside = [place for place, (first, last) in enumerate(places) if first < end and last > start]
    for place in inside:
        if labels[place] != OUTSIDE:
            what = f"two marked places share {text[slice(*places[place])]!r}"
            raise Refusal(what, where, "mark each word once")
        labels[place] = f"{BEGIN if place == inside[0] else INSIDE}-{label}"
