"""Writes a text for each new text: translations, summaries."""

import torch

from recipes.common.model.loading import max_length
from recipes.common.predict.trained_folder import Folder, Row, Text


class Writer(Folder):
    """Translates or summarizes with a trained folder's model, languages, prefix and length."""

    auto_class = "AutoModelForSeq2SeqLM"

    def __init__(self, folder: str, trust_remote_code: bool = False):
        super().__init__(folder, trust_remote_code)
        wanted = self.flags.get("max_source_length", 1024)
        self.max_length = max_length(wanted, self.tokenizer, self.model)

    @torch.inference_mode()
    def answer(self, texts: list[Text]) -> list[Row]:
        """Returns the generated texts."""
        prefix = getattr(self.model.generation_config, "prefix", None) or ""
        batch = self.encode([prefix + text for text in texts], self.max_length)
        generated = self.model.generate(**batch)
        decoded = self.tokenizer.batch_decode(generated, skip_special_tokens=True)
        return [{"prediction": text.strip()} for text in decoded]
