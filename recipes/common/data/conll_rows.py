"""Reads sentences of labelled words: one word per line, and an empty line after each sentence.

The columns of a line are the word and its labels, with tabs or spaces between them (CoNLL shared
tasks; also .bio, .iob2, .bmes). Universal Dependencies' ten columns (.conllu) have their own names.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from recipes.common.runtime.errors import Refusal

Row = dict[str, list[str]]
WORDS = "tokens"  # Hugging Face's name of the column
LABELS = "tags"  # of the last column
CONLL_2003 = (WORDS, "pos_tags", "chunk_tags", "ner_tags")
CONLLU = ("id", WORDS, "lemmas", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
DOCUMENT = "-DOCSTART-"  # a line of CoNLL-2003 that is no sentence
COMMENT = re.compile(r"#\s.*(=|\bid\b)")  # "# sent_id = 5", "# id 7"; the word "#" is none
BETWEEN = re.compile(r"[ \t]+")
LONGEST = 10_000  # words of a sentence
LOOKED_AT = 1000  # lines by which a table with a header is told from sentences


def rows(lines: Iterable[str], path: Path, ending: str) -> Iterator[tuple[int, Row]]:
    """Yields pairs of first line and sentence: the columns by name, each a list of one per word.

    Refuses lines with more or fewer columns than the first one.
    """
    width = 0
    for start, sentence in _sentences(lines, path, ending):
        width = width or len(sentence[0])
        for number, cells in enumerate(sentence, start):
            if len(cells) != width:
                raise _uneven(cells, width, f"{path}:{number}")
        names = CONLLU if ending == "conllu" else _names(width)
        columns = zip(*sentence, strict=True)
        yield start, {name: list(column) for name, column in zip(names, columns, strict=True)}


def are_sentences(lines: list[str]) -> bool:
    """Whether these first lines of a file are sentences: lines between them are empty."""
    return any(not line.strip() for line in lines[1:-1])


def _sentences(
    lines: Iterable[str], path: Path, ending: str
) -> Iterator[tuple[int, list[list[str]]]]:
    """Yields the first line and the cells of each sentence."""
    start = 0
    sentence: list[list[str]] = []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        is_end = not line.strip(" \t") or line.startswith(DOCUMENT)
        if is_end and sentence:
            yield start, sentence
        if is_end:
            sentence = []
        elif not _is_left_out(line, ending, is_first=not sentence):
            start = start if sentence else number
            sentence.append(_cells(line))
        if len(sentence) > LONGEST:
            what = f"no empty line in {LONGEST:,} lines: where does a sentence end?"
            raise Refusal(what, f"{path}:{start}", "write an empty line after each sentence")
    if sentence:
        yield start, sentence


def _is_left_out(line: str, ending: str, is_first: bool) -> bool:
    """Whether a line is no word: a comment, or in .conllu several words in one."""
    if ending == "conllu":
        return line.startswith("#") or not line.partition("\t")[0].isdecimal()
    return is_first and COMMENT.match(line) is not None


def _cells(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else BETWEEN.split(line)


def _names(width: int) -> tuple[str, ...]:
    """Returns the names of the columns of a file without a header."""
    if width == len(CONLL_2003):
        return CONLL_2003
    between = [f"column_{place}" for place in range(2, width)]
    return (WORDS, *between, LABELS)[:width] if width > 1 else (WORDS,)


def _uneven(cells: list[str], width: int, where: str) -> Refusal:
    what = f"the line has {len(cells)} columns, but the first one has {width}: {' '.join(cells)}"
    fix = "write the word and its labels, with one tab or space between them"
    return Refusal(what, where, fix)
