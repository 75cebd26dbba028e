"""Continues a prompt."""

from pathlib import Path
from typing import Any

import torch

from recipes.common.model import probes
from recipes.common.model.special_tokens import end_of_text, start_of_text
from recipes.common.predict.trained_folder import FLAG, Folder, Row, Text, config_of
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import visible, warn

CONTINUES = ("ForCausalLM", "LMHeadModel")  # how the names of causal language models end


class Continuer(Folder):
    """Continues prompts with the model of a trained folder."""

    auto_class = "AutoModelForCausalLM"

    def __init__(self, folder: str, trust_remote_code: bool = False):
        kind = (config_of(Path(folder), trust_remote_code).architectures or [""])[0]
        if kind and not kind.endswith(CONTINUES):
            what = f"{folder} holds a {kind}, which continues no prompt"
            raise Refusal(what, FLAG, f"python cli.py predict {folder} TEXT")
        super().__init__(folder, trust_remote_code)
        self.room, _ = probes.positions(self.model)
        if probes.reads_both_sides(self.model):
            kind = f"this {self.config.model_type} sees the words on both sides"
            warn(f"{kind}: its continuations do not show its quality")

    def answer(self, texts: list[Text]) -> list[Row]:
        """Returns each text with its continuation, as `generate` writes it by default."""
        return [{"prediction": self.write(text, {})[0]} for text in texts]

    @torch.inference_mode()
    def write(self, prompt: str, settings: dict[str, Any], streamer: Any = None) -> list[str]:
        """Returns the prompt with its continuation, `num_return_sequences` times.

        `settings` are those of `generate`. A prompt begins as the tokenizer begins a text. Where
        the tokenizer adds no token there, an empty prompt becomes the token that ends a text: the
        next text begins after it.
        """
        batch = torch.tensor([self._ids(prompt)], device=self.device)
        mask = torch.ones_like(batch)
        written = self.model.generate(batch, attention_mask=mask, streamer=streamer, **settings)
        return [self.tokenizer.decode(row, skip_special_tokens=True) for row in written]

    def check(self, prompt: str, settings: dict[str, Any]) -> None:
        """Refuses a prompt that leaves too few of the model's positions for the new tokens."""
        number, new = len(self._ids(prompt)), settings["max_new_tokens"]
        if number + new > self.room:
            needed = f"{number} tokens of prompt and {new} new ones"
            what = f"{needed} exceed {self.room} positions: {visible(prompt, 60)!r}"
            most = max(int(self.room) - number, 1)
            raise Refusal(what, "--max_new_tokens", f"--max_new_tokens {most}, or a shorter prompt")

    def _ids(self, prompt: str) -> list[int]:
        start = [*start_of_text(self.tokenizer)]
        ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        if ids[: len(start)] != start:  # otherwise the prompt itself says <s>
            ids = [*start, *ids]
        return ids or [end_of_text(self.tokenizer)]

    def forbidden(self, words: list[str]) -> list[list[int]]:
        """Returns the token ids that `generate` is not to write.

        They are those of the words at the beginning of a text and after a space. In another casing,
        or split into other tokens, a word may still be written.
        """
        found: dict[tuple[int, ...], None] = {}
        for word in words:
            for form in (word, f" {word}"):
                ids = self.tokenizer(form, add_special_tokens=False)["input_ids"]
                found[tuple(ids)] = None
        return [list(ids) for ids in found if ids]
