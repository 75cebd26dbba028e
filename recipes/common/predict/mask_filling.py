"""Fills the mask of new texts."""

import torch
from transformers import BatchEncoding

from recipes.common.model.loading import max_length
from recipes.common.predict.trained_folder import Folder, Row, Text
from recipes.common.runtime.errors import Refusal


class MaskFiller(Folder):
    """Fills the first mask of a text, as pipeline("fill-mask") does."""

    auto_class = "AutoModelForMaskedLM"
    best = 5

    def __init__(self, folder: str, trust_remote_code: bool = False):
        super().__init__(folder, trust_remote_code)
        wanted = self.flags.get("max_seq_length", 512)
        self.max_length = max_length(wanted, self.tokenizer, self.model)

    @torch.inference_mode()
    def answer(self, texts: list[Text]) -> list[Row]:
        """Returns the text with its mask filled, the word's score, and the five best words."""
        mask = self.tokenizer.mask_token
        for text in texts:
            if mask not in text:
                fix = f"write {mask} where a word is to be filled in"
                raise Refusal(f"no {mask} in {text!r}", "the text", fix)
        batch = self.encode(texts, self.max_length)
        self._refuse_cut_masks(texts, batch)
        logits = self.model(**batch).logits
        rows = zip(texts, batch["input_ids"], logits, strict=True)
        return [self._answer(*row) for row in rows]

    def _refuse_cut_masks(self, texts: list[Text], batch: BatchEncoding) -> None:
        """Refuses a text that is cut before its mask."""
        is_cut = ~batch["input_ids"].eq(self.tokenizer.mask_token_id).any(1)
        if is_cut.any():
            length, mask = batch["input_ids"].shape[1], self.tokenizer.mask_token
            what = f"{mask} stands behind token {length}, where the text is cut"
            where = f"the text {texts[int(is_cut.nonzero()[0])]!r:.60}"
            raise Refusal(what, where, "shorten what stands before it")

    def _answer(self, text: str, ids: torch.Tensor, logits: torch.Tensor) -> Row:
        place = ids.eq(self.tokenizer.mask_token_id).nonzero()[0, 0]
        scores, tokens = logits[place].float().softmax(-1).topk(self.best)
        words = [self.tokenizer.decode([token]).strip() for token in tokens]
        named = dict(zip(words, scores.tolist(), strict=True))
        filled = text.replace(self.tokenizer.mask_token, words[0], 1)
        return {"prediction": filled, "score": scores[0].item(), "scores": named}
