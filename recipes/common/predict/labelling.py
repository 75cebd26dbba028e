"""Labels or rates new texts, as transformers.pipeline() does."""

from typing import Any

import numpy
import torch

from recipes.common.data.labels import MULTI, REGRESSION, SINGLE
from recipes.common.metrics import classification
from recipes.common.model.loading import max_length
from recipes.common.predict.trained_folder import Folder, Row, Text


class Classifier(Folder):
    """Labels or rates texts with the model of a trained folder."""

    auto_class = "AutoModelForSequenceClassification"

    def __init__(self, folder: str, trust_remote_code: bool = False):
        super().__init__(folder, trust_remote_code)
        number = self.config.num_labels
        self.names = [self.config.id2label[label] for label in range(number)]
        self.kind = self.config.problem_type or (SINGLE if number > 1 else REGRESSION)
        wanted = self.flags.get("max_seq_length", 512)
        self.max_length = max_length(wanted, self.tokenizer, self.model)

    @torch.inference_mode()
    def answer(self, texts: list[Text]) -> list[Row]:
        """Returns predictions and scores; one or several numbers for regression, a list for several
        labels."""
        logits = self.model(**self.encode(texts, self.max_length)).logits
        return [self._answer(row) for row in logits.float().cpu().numpy()]

    def _answer(self, logits: numpy.ndarray) -> Row:
        if self.kind == REGRESSION:
            return {"prediction": self._numbers(logits.tolist())}
        values = classification.probabilities(logits, self.kind).tolist()
        scores = dict(zip(self.names, values, strict=True))
        decision = classification.decisions(logits, self.kind)
        if self.kind == MULTI:
            chosen = [name for name, one in zip(self.names, decision, strict=True) if one]
            return {"prediction": chosen, "scores": scores}
        best = self.names[int(decision)]
        return {"prediction": best, "score": scores[best], "scores": scores}

    def _numbers(self, values: list[float]) -> Any:
        if len(values) == 1:
            return values[0]
        return dict(zip(self.names, values, strict=True))
