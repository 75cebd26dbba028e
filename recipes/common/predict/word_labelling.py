"""Labels the words of new texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from recipes.common.data import column_kinds, readers, word_tables
from recipes.common.metrics import entities
from recipes.common.model.loading import max_length
from recipes.common.predict.trained_folder import Folder, Row, Text
from recipes.common.runtime.messages import warn
from recipes.common.tokens.words import NO_WORD, first_pieces, take_words, word_ids

Words = list[str]


class WordLabeller(Folder):
    """A trained folder that labels each word: of a text, or of a list of words."""

    auto_class = "AutoModelForTokenClassification"

    def __init__(self, folder: str, trust_remote_code: bool = False):
        super().__init__(folder, trust_remote_code)
        take_words(self.tokenizer)
        number = self.config.num_labels
        self.names = [self.config.id2label[label] for label in range(number)]
        wanted = self.flags.get("max_seq_length", 512)
        self.max_length = max_length(wanted, self.tokenizer, self.model)
        self._has_warned = False

    @torch.inference_mode()
    def answer(self, texts: list[Text | Words]) -> list[Row]:
        """Returns the entities of each text with their places; of a list of words their labels.

        Where the labels mark no entities, each word of a text has one: [{"label", "text", "start",
        "end", "score"}]. The words of a text end at spaces and marks; each Chinese character is a
        word.
        """
        places = [word_tables.words(text) if isinstance(text, str) else [] for text in texts]
        rows = [self._encoded(text, own) for text, own in zip(texts, places, strict=True)]
        batch = self.collate([dict(row) for row in rows]).to(self.device)
        scores, best = self.model(**batch).logits.float().softmax(-1).max(-1)
        answers = []
        for number, (text, own) in enumerate(zip(texts, places, strict=True)):
            words = word_ids(rows[number], 0)
            labelled = {}
            for word, piece in first_pieces(words).items():
                labelled[word] = (self.names[best[number, piece]], scores[number, piece].item())
            self._warn_of_cut(len(own or text), words)
            answers.append(self._answer(text, own, labelled))
        return answers

    def _encoded(self, text: Text | Words, places: list[tuple[int, int]]) -> Any:
        words = [text[start:end] for start, end in places] if isinstance(text, str) else text
        return self.tokenizer(
            words, is_split_into_words=True, truncation=True, max_length=self.max_length
        )

    def _warn_of_cut(self, number: int, words: list[int]) -> None:
        """Warns once of words behind the last token that is read."""
        cut = number - 1 - max(words, default=NO_WORD)
        if cut > 0 and len(words) >= self.max_length and not self._has_warned:
            self._has_warned = True
            where = f"behind token {self.max_length}, where texts are cut"
            warn(f"the last {cut} words of a text stand {where}: they get no label")

    def _answer(
        self,
        text: Text | Words,
        places: list[tuple[int, int]],
        labelled: dict[int, tuple[str, float]],
    ) -> Row:
        outside = (entities.OUTSIDE if entities.OUTSIDE in self.names else None, 0.0)
        if not isinstance(text, str):
            return {"prediction": [labelled.get(word, outside)[0] for word in range(len(text))]}
        found = []
        of_words = [labelled.get(word, outside) for word in range(len(places))]
        for label, first, last in self._spans(of_words):
            start, end = places[first][0], places[last][1]
            sure = [score for _, score in of_words[first : last + 1]]
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

    def _spans(self, labelled: list[tuple[str | None, float]]) -> list[entities.Entity]:
        """Returns the entities, or each word with its label."""
        labels = [label for label, _ in labelled]
        if entities.are_entities(self.names):
            return entities.entities([label or entities.OUTSIDE for label in labels])
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
        (column,) = self.record.get("text_columns", ["tokens"])
        for name in (column, "tokens"):
            if name in row:
                return column_kinds.WORDS.read(row[name], name, lambda: where)
        if "text" in row:
            return str(row["text"] or "")
        return super()._text_of(row, where)
