"""Labels the words of new texts, as transformers.pipeline("token-classification") does."""

from typing import Any

import torch

from recipes.common.metrics import entities
from recipes.common.model.loading import max_length
from recipes.common.predict.trained_folder import Folder, Row, Text
from recipes.common.tokens.words import first_pieces, with_spaces

Words = list[str]


class WordLabeller(Folder):
    """A trained folder that labels each word: of a text, or of a list of words."""

    auto_class = "AutoModelForTokenClassification"

    def __init__(self, folder: str, trust_remote_code: bool = False):
        super().__init__(folder, trust_remote_code)
        with_spaces(self.tokenizer)
        number = self.config.num_labels
        self.names = [self.config.id2label[label] for label in range(number)]
        wanted = self.flags.get("max_seq_length", 512)
        self.max_length = max_length(wanted, self.tokenizer, self.model)

    @torch.inference_mode()
    def answer(self, texts: list[Text | Words]) -> list[Row]:
        """Returns the entities of each text with their places; of a list of words their labels.

        Where the labels mark no entities, each word of a text has one: [{"word", "label", "score",
        "start", "end"}].
        """
        rows = [self._tokens(text) for text in texts]
        batch = self.collate([self._inputs(row) for row in rows]).to(self.device)
        best, scores = entities.best_labels(self.model(**batch).logits, None)
        answers = []
        for row, text in enumerate(texts):
            answers.append(self._answer(text, rows[row], best[row].tolist(), scores[row].tolist()))
        return answers

    def _text_of(self, row: Row, where: str) -> Text | Words:
        """Returns the words of a row as they are, or the text in a column called text."""
        columns = self.record.get("text_columns", ["tokens"])
        if columns[0] not in row and "text" not in row:
            return super()._text_of(row, where)
        value = row.get(columns[0], row.get("text"))
        return value if isinstance(value, list) else str(value or "")

    def _tokens(self, text: Text | Words) -> Any:
        return self.tokenizer(
            text,
            is_split_into_words=isinstance(text, list),
            truncation=True,
            max_length=self.max_length,
            return_offsets_mapping=True,
        )

    def _inputs(self, encoded: Any) -> Row:
        return {name: value for name, value in encoded.items() if name != "offset_mapping"}

    def _answer(
        self, text: Text | Words, encoded: Any, best: list[int], scores: list[float]
    ) -> Row:
        words = [-1 if word is None else word for word in encoded.word_ids()]
        pieces = first_pieces(words)
        labels = {word: self.names[best[piece]] for word, piece in pieces.items()}
        if isinstance(text, list):
            outside = entities.OUTSIDE if entities.OUTSIDE in self.names else None
            return {"prediction": [labels.get(word, outside) for word in range(len(text))]}
        places = _places(words, encoded["offset_mapping"])
        found = []
        for label, first, last in self._spans(list(labels.values())):
            order = list(pieces)
            start, end = places[order[first]][0], places[order[last]][1]
            start += len(text[start:end]) - len(text[start:end].lstrip())  # byte-level BPE
            sure = [scores[pieces[word]] for word in order[first : last + 1]]
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

    def _spans(self, labels: list[str]) -> list[entities.Entity]:
        """Returns the entities, or each word with its label."""
        if entities.are_entities(self.names):
            return entities.entities(labels)
        return [(label, word, word) for word, label in enumerate(labels)]


def _places(words: list[int], offsets: list[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Returns where each word begins and ends in the text, from the offsets of its pieces."""
    found: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(words, offsets, strict=True):
        first = found.get(word, (start, end))[0]
        found[word] = (first, end)
    return found
