"""Labels the words of new texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from recipes.common.data import column_kinds, entity_labels, readers, word_tables
from recipes.common.metrics import entities
from recipes.common.model.loading import max_length
from recipes.common.predict.trained_folder import Folder, Row, Text
from recipes.common.tokens.words import first_pieces, take_words, word_ids

WINDOWS = 32  # run through the model together
OVERLAP = 4  # windows share a fourth of their tokens
Words = list[str]


class Window(NamedTuple):
    """Holds a part of a text, as long as the model reads."""

    text: int  # its place among the texts
    tokens: dict[str, list[int]]
    words: list[int]  # the word that each token is part of


class Label(NamedTuple):
    """Holds the label of a word."""

    name: str | None
    score: float
    around: int  # tokens between its first piece and the nearer end of the window


Labelled = dict[int, Label]  # by the place of the word


class WordLabeller(Folder):
    """Labels each word of a text, or of a list of words, with a trained folder's model."""

    auto_class = "AutoModelForTokenClassification"

    def __init__(self, folder: str, trust_remote_code: bool = False):
        super().__init__(folder, trust_remote_code)
        take_words(self.tokenizer)
        number = self.config.num_labels
        self.names = [self.config.id2label[label] for label in range(number)]
        wanted = self.flags.get("max_seq_length", 512)
        self.max_length = max_length(wanted, self.tokenizer, self.model)

    @torch.inference_mode()
    def answer(self, texts: list[Text | Words]) -> list[Row]:
        """Returns the entities of each text with their places; for a list of words, its labels.

        Where the labels mark no entities, each word of a text has one: [{"label", "text", "start",
        "end", "score"}]. The words of a text end at spaces and marks; each Chinese character is a
        word.
        """
        places = [word_tables.words(text) if isinstance(text, str) else [] for text in texts]
        windows: list[Window] = []
        for number, (text, own) in enumerate(zip(texts, places, strict=True)):
            windows += self._windows(number, text, own)
        labelled: list[Labelled] = [{} for _ in texts]
        for start in range(0, len(windows), WINDOWS):
            self._label(windows[start : start + WINDOWS], labelled)
        return [self._answer(*one) for one in zip(texts, places, labelled, strict=True)]

    def _windows(
        self, number: int, text: Text | Words, places: list[tuple[int, int]]
    ) -> Iterator[Window]:
        """Yields the tokens of a text; for a long one, in windows that overlap."""
        words = [text[start:end] for start, end in places] if isinstance(text, str) else text
        encoded = self.tokenizer(
            words,
            is_split_into_words=True,
            truncation=True,
            max_length=self.max_length,
            stride=self.max_length // OVERLAP,
            return_overflowing_tokens=True,
        )
        names = [name for name in self.tokenizer.model_input_names if name in encoded]
        for row in range(len(encoded["input_ids"])):
            tokens = {name: encoded[name][row] for name in names}
            yield Window(number, tokens, word_ids(encoded, row))

    def _label(self, windows: list[Window], labelled: list[Labelled]) -> None:
        """Adds the labels of the words of these windows to those of their texts.

        A word that stands in two windows is labelled by the one that holds more text around it.
        """
        batch = self.collate([dict(window.tokens) for window in windows]).to(self.device)
        scores, best = self.model(**batch).logits.float().softmax(-1).max(-1)
        for row, window in enumerate(windows):
            found = labelled[window.text]
            for word, piece in first_pieces(window.words).items():
                around = min(piece, len(window.words) - 1 - piece)
                if word not in found or around > found[word].around:
                    label, score = self.names[best[row, piece]], scores[row, piece].item()
                    found[word] = Label(label, score, around)

    def _answer(self, text: Text | Words, places: list[tuple[int, int]], labelled: Labelled) -> Row:
        none = Label(entity_labels.OUTSIDE if entity_labels.OUTSIDE in self.names else None, 0.0, 0)
        if not isinstance(text, str):
            return {"prediction": [labelled.get(word, none).name for word in range(len(text))]}
        found = []
        of_words = [labelled.get(word, none) for word in range(len(places))]
        for label, first, last in self._spans([one.name for one in of_words]):
            start, end = places[first][0], places[last][1]
            sure = [one.score for one in of_words[first : last + 1]]
            found.append(
                {
                    "label": label,
                    "text": text[start:end],
                    "start": start,
                    "end": end,
                    "score": sum(sure) / len(sure),
                }
            )
        return {"prediction": found}

    def _spans(self, labels: list[str | None]) -> list[entities.Entity]:
        """Returns the entities, or each word with its label."""
        if entity_labels.are_entities(self.names):
            return entities.entities([label or entity_labels.OUTSIDE for label in labels])
        return [(label, word, word) for word, label in enumerate(labels) if label]

    def texts(self, path: Path, encoding: str = "") -> Iterator[Text | Words]:
        """Yields what a file holds: the words of its sentences, or texts.

        A .txt file of sentences has empty lines between them. Otherwise each line is a text.
        """
        if readers.is_plain_text(path) and not readers.holds_sentences(path, encoding):
            yield from super().texts(path, encoding)
            return
        rows = readers.read(path, readers.Options(encoding, words=True))

        def place(number: int) -> str:
            return readers.place(path, number)

        for number, row in word_tables.sentences(rows, place):
            yield self._text_of(row, place(number))

    def _text_of(self, row: Row, where: str) -> Text | Words:
        """Returns the words of a row, or the text in a column called text."""
        (column,) = self.record.get("text_columns", [entity_labels.TOKENS])
        for name in (column, entity_labels.TOKENS):
            if name in row:
                return column_kinds.WORDS.read(row[name], name, lambda: where)
        if "text" in row:
            return str(row["text"] or "")
        return super()._text_of(row, where)
