"""Makes sentences of labelled words from other ways to write them.

- A table with one word per row, whose sentences a column numbers (Kaggle's "Sentence #").
- A text with marked places, as doccano, Prodigy, Label Studio and spaCy write them:
  {"text": "Ada sleeps", "label": [[0, 3, "PER"]]}.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from recipes.common.runtime.errors import Refusal

Row = dict[str, Any]
Numbered = Iterator[tuple[int, Row]]
SENTENCE = re.compile(r"(sentence|sent)[ _]?(#|id|idx|no|number)?", re.IGNORECASE)
WORD = re.compile(r"(word|token)s?", re.IGNORECASE)
TEXT = "text"  # the column of a text with marked places
SPANS = ("label", "labels", "entities", "spans", "ner")  # the names of the column of the places
# A character of a script without spaces, a word, or a mark.
PARTS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+(?:[-'’][^\W_]+)*|[^\s]")
TOKENS, TAGS = "tokens", "tags"


def sentences(rows: Numbered, place: Callable[[int], str]) -> Numbered:
    """Yields the rows, those of one word each joined to sentences, and marked texts as words.

    Rows that are sentences already come as they are.
    """
    first = next(rows, None)
    if first is None:
        return
    whole = _with_first(first, rows)
    sentence = _sentence_column(first[1])
    if sentence:
        yield from _joined(whole, sentence)
        return
    spans = _span_column(first[1])
    for number, row in whole:
        yield number, _as_words(row, spans, place(number)) if spans else row


def _with_first(first: tuple[int, Row], rows: Numbered) -> Numbered:
    yield first
    yield from rows


def _sentence_column(row: Row) -> str:
    """Returns the column that numbers the sentences of a table with one word per row."""
    has_words = any(WORD.fullmatch(name) and isinstance(row[name], str) for name in row)
    found = [name for name in row if SENTENCE.fullmatch(name.strip())]
    return found[0] if has_words and found else ""


def _joined(rows: Numbered, sentence: str) -> Numbered:
    """Yields one row per sentence: of each column the list of its cells.

    A sentence begins where its column says something new. Kaggle's table says it once.
    """
    start, before, joined = 0, None, dict[str, list[Any]]()
    for number, row in rows:
        name = row.pop(sentence)
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
    text = row.get(TEXT) or ""
    words = [(found.start(), found.end()) for found in PARTS.finditer(text)]
    labels = ["O"] * len(words)
    for value in row.get(column) or ():
        span = _span(value)
        if span is None:
            raise Refusal(f"not a marked place: {value}", where, 'write [start, end, "LABEL"]')
        _mark(words, labels, span, text, where)
    others = {name: value for name, value in row.items() if name not in (TEXT, column)}
    tokens = [text[start:end] for start, end in words]
    return {**others, TOKENS: tokens, TAGS: labels}


def _mark(
    words: list[tuple[int, int]],
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
    inside = [place for place, (first, last) in enumerate(words) if first < end and last > start]
    for place in inside:
        if labels[place] != "O":
            what = f"two marked places share {text[slice(*words[place])]!r}"
            raise Refusal(what, where, "mark each word once")
        labels[place] = f"{'B' if place == inside[0] else 'I'}-{label}"
