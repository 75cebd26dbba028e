"""Writes texts that continue prompts, with a causal language model.

The texts are shown as they are generated, or written to a file.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from recipes.common.data import found_files, readers
from recipes.common.data.writing_systems import UNSPACED
from recipes.common.predict import answer_file
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import visible_lines, warn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TextStreamer

    from recipes.common.predict.continuing import Continuer

ZERO_IS_UNSET = ("min_new_tokens", "no_repeat_ngram_size")


@dataclass(frozen=True)
class Settings:
    """Holds the flags of `generate`; `model` are the settings of transformers' generate()."""

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
    """Writes every prompt's texts into a jsonl file, or shows them."""
    _check_numbers(settings.model)
    prompts, forbidden = list(_prompts(settings)), _forbidden_words(settings)
    with answer_file.rows_to(settings.output, settings.file) as write:
        from transformers import set_seed

        from recipes.common.predict.continuing import Continuer

        model = Continuer(settings.folder, settings.trust_remote_code)
        options = _options(settings.model)
        options["bad_words_ids"] = model.forbidden(forbidden) or None
        for prompt in prompts:
            model.check(prompt, options)
        set_seed(settings.seed)
        found = Counter()
        for row in _rows(model, prompts, options, shows=not settings.output):
            found.update(_contained(forbidden, row["text"].removeprefix(row["prompt"])))
            write(row)
    _warn_of_forbidden(found)


def _options(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of generate(), without each 0 that means "not set"."""
    return {name: value for name, value in settings.items() if value or name not in ZERO_IS_UNSET}


def _rows(
    model: "Continuer", prompts: list[str], options: dict[str, Any], shows: bool
) -> Iterator[dict[str, Any]]:
    """Yields every prompt's texts as rows, and shows the texts on request.

    Where there is one text per prompt, it is shown token by token.
    """
    by_token = shows and options["num_beams"] == 1 and options["num_return_sequences"] == 1
    streamer = None
    for number, prompt in enumerate(tqdm(prompts, "writing", delay=2, leave=False, disable=shows)):
        if by_token:
            streamer = _streamer(model.tokenizer)
        for sample, text in enumerate(model.write(prompt, options, streamer)):
            if shows and not by_token:
                print(f"--- prompt {number}, text {sample}\n{visible_lines(text)}")
            yield {"prompt_id": number, "sample": sample, "prompt": prompt, "text": text}


def _forbidden_words(settings: Settings) -> list[str]:
    """Returns the words of the file of forbidden words, which holds one per line."""
    if not settings.forbidden_words:
        return []
    path = found_files.one(settings.forbidden_words, "--forbidden_words", settings.encoding)
    words = []
    for number, row in readers.read(path, readers.Options(settings.encoding)):
        word = row.get("text")
        if not isinstance(word, str):
            fix = "write one word per line into a .txt file"
            raise Refusal("no column text", readers.place(path, number), fix)
        if word.strip():
            words.append(word.strip())
    return words


def _contained(words: list[str], text: str) -> list[str]:
    """Returns the words that a text contains, in any casing.

    A word of a script without spaces is also found within other words.
    """
    found = []
    for word in dict.fromkeys(words):
        pattern = re.escape(word)
        if not UNSPACED.search(word):
            pattern = rf"(?<!\w){pattern}(?!\w)"
        if re.search(pattern, text, re.I):
            found.append(word)
    return found


def _warn_of_forbidden(found: Counter) -> None:
    """Warns of forbidden words that were written: a model may spell a word with other tokens."""
    if found:
        shown = ", ".join(f"{word} {number} times" for word, number in found.most_common(5))
        warn(f"--forbidden_words forbids only the usual spellings; written in another one: {shown}")


def _check_numbers(options: dict[str, Any]) -> None:
    """Refuses numbers that contradict each other.

    It refuses more texts than a search has beams, several texts that would be the same, and
    --min_new_tokens above --max_new_tokens.
    """
    least, most = options.get("min_new_tokens", 0), options["max_new_tokens"]
    if least > most:
        what = f"--min_new_tokens {least} is more than --max_new_tokens {most}"
        fix = f"--max_new_tokens {least}, or a lower --min_new_tokens"
        raise Refusal(what, "--min_new_tokens", fix)
    texts, beams = options["num_return_sequences"], options["num_beams"]
    if texts > beams > 1:
        what = f"{beams} beams cannot give {texts} texts"
        raise Refusal(what, "--num_return_sequences", f"--num_beams {texts}")
    if texts > 1 and beams == 1 and not options["do_sample"]:
        what = "several texts per prompt would be the same without sampling"
        fix = f"set --temperature above 0, or --num_beams {texts}"
        raise Refusal(what, "--num_return_sequences", fix)


def _streamer(tokenizer: "PreTrainedTokenizerBase") -> "TextStreamer":
    """Returns a streamer that prints a text while it is generated.

    What a terminal would take for a command is printed as characters.
    """
    from transformers import TextStreamer

    streamer = TextStreamer(tokenizer, skip_special_tokens=True)
    show = streamer.on_finalized_text

    def show_visible(text: str, stream_end: bool = False) -> None:
        show(visible_lines(text), stream_end)

    streamer.on_finalized_text = show_visible
    return streamer


def _prompts(settings: Settings) -> Iterator[str]:
    yield from settings.prompts
    if settings.file:
        path = found_files.one(settings.file, "--file", settings.encoding)
        for number, row in readers.read(path, readers.Options(settings.encoding)):
            text = row.get("prompt", row.get("text"))
            if not isinstance(text, str):
                what = f"no column prompt or text; columns: {', '.join(row)}"
                raise Refusal(what, readers.place(path, number), "name the column prompt")
            yield text
    elif not settings.prompts:
        for line in sys.stdin:
            yield line.rstrip("\r\n")
