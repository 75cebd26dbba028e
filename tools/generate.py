"""Prompts -> texts of a causal language model, shown as they are written, or a file of them."""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recipes.common.data import readers
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import visible_lines, warn

ZERO_IS_UNSET = ("min_new_tokens", "no_repeat_ngram_size")


@dataclass(frozen=True)
class Settings:
    """What `generate` was asked for; `model` are the settings of transformers' generate()."""

    folder: str
    prompts: list[str]
    file: Path | None
    output: Path | None
    forbidden_words: Path | None
    seed: int
    trust_remote_code: bool
    model: dict[str, Any]
    encoding: str = ""


def run(settings: Settings) -> None:
    """Writes every prompt's texts: to the screen token by token where there is one text, or to a jsonl file."""
    _check_number(settings.model)
    prompts, words = list(_prompts(settings)), _words(settings)
    with readers.rows_to(settings.output, settings.file) as write:
        from transformers import set_seed

        from recipes.common.predict import Continuer

        model = Continuer(settings.folder, settings.trust_remote_code)
        options = {
            name: value
            for name, value in settings.model.items()
            if value or name not in ZERO_IS_UNSET
        }
        options["bad_words_ids"] = model.forbidden(words) or None
        for prompt in prompts:
            model.check(prompt, options)
        set_seed(settings.seed)
        streams = (
            not settings.output
            and options["num_beams"] == 1
            and options["num_return_sequences"] == 1
        )
        found = Counter()
        for number, prompt in enumerate(
            tqdm(prompts, "writing", delay=2, leave=False, disable=not settings.output)
        ):
            streamer = _streamer(model.tokenizer) if streams else None
            for sample, text in enumerate(model.write(prompt, options, streamer)):
                found.update(_held(words, text.removeprefix(prompt)))
                if settings.output:
                    write({"prompt_id": number, "sample": sample, "prompt": prompt, "text": text})
                elif not streams:
                    print(f"--- prompt {number}, text {sample}\n{visible_lines(text)}")
    _tell(found)


def _words(settings: Settings) -> list[str]:
    """The forbidden words, one a line."""
    if not settings.forbidden_words:
        return []
    path = readers.one(settings.forbidden_words, "--forbidden_words", settings.encoding)
    rows = [
        (number, row.get("text"))
        for number, row in readers.read(path, readers.Options(settings.encoding))
    ]
    missing = next((number for number, word in rows if not isinstance(word, str)), None)
    if missing is not None:
        raise Refusal(
            "no column text", readers.place(path, missing), "write one word a line into a .txt file"
        )
    return [word.strip() for _, word in rows if word.strip()]


def _held(words: list[str], text: str) -> list[str]:
    """The words that a text holds, in whatever casing; where a script has no spaces, also within others."""
    from recipes.common.model.languages import UNSPACED

    borders = {
        word: ("", "") if UNSPACED.search(word) else (r"(?<!\w)", r"(?!\w)") for word in words
    }
    return [
        word
        for word, (left, right) in borders.items()
        if re.search(f"{left}{re.escape(word)}{right}", text, re.I)
    ]


def _tell(found: Counter) -> None:
    """Says which forbidden words were written all the same: a model may spell a word with other tokens."""
    if found:
        shown = ", ".join(f"{word} {number} times" for word, number in found.most_common(5))
        warn(
            f"--forbidden_words forbids usual spellings alone; written all the same, in another one: {shown}"
        )


def _check_number(options: dict[str, Any]) -> None:
    """Refuses more texts than a search has beams, or than differ."""
    texts, beams = options["num_return_sequences"], options["num_beams"]
    if texts > beams > 1:
        raise Refusal(
            f"{beams} beams end in no {texts} texts",
            "--num_return_sequences",
            f"--num_beams {texts}",
        )
    if texts > 1 and beams == 1 and not options["do_sample"]:
        fix = "set --temperature above 0, or --num_beams to as many"
        raise Refusal(
            "several texts of a prompt without drawing would be the same",
            "--num_return_sequences",
            fix,
        )


def _streamer(tokenizer: Any) -> Any:
    """Prints a text while it is written; what a terminal would take for a command is printed as characters."""
    from transformers import TextStreamer

    streamer = TextStreamer(tokenizer, skip_special_tokens=True)
    show = streamer.on_finalized_text
    streamer.on_finalized_text = lambda text, stream_end=False: show(
        visible_lines(text), stream_end
    )
    return streamer


def _prompts(settings: Settings) -> Iterator[str]:
    yield from settings.prompts
    if settings.file:
        path = readers.one(settings.file, "--file", settings.encoding)
        for number, row in readers.read(path, readers.Options(settings.encoding)):
            text = row.get("prompt", row.get("text"))
            if not isinstance(text, str):
                what = f"no column prompt or text; columns: {', '.join(row)}"
                raise Refusal(what, readers.place(path, number), "name the column prompt")
            yield text
    elif not settings.prompts:
        yield from (line.rstrip("\r\n") for line in sys.stdin)
