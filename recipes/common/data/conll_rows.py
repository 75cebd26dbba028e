"""Reads sentences of labelled words: one word per line, and an empty line after each sentence.

The columns of a line are the word and its labels, with tabs or spaces between them (CoNLL shared
tasks; also .bio, .iob2, .bmes). Universal Dependencies' ten columns (.conllu) have their own names.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from recipes.common.data.entity_labels import OUTSIDE, TAGS, TOKENS, are_entities
from recipes.common.runtime.errors import Refusal

Row = dict[str, list[str]]
Sentence = list[list[str]]  # the cells of each word
CONLL_2003 = (TOKENS, "pos_tags", "chunk_tags", "ner_tags")
CONLLU = ("id", TOKENS, "lemmas", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
# The names that a first line may give to the columns.
OF_WORDS = re.compile(r"(word|token|text|form)s?", re.IGNORECASE)
OF_LABELS = re.compile(r"(ner|pos|chunk|iob|bio)?[ _]?(tag|label|class)?s?", re.IGNORECASE)
DOCUMENT = "-DOCSTART-"  # a line of CoNLL-2003 that is no sentence
COMMENT = re.compile(r"#\s.*(=|\bid\s)")  # "# sent_id = 5", "# id 7"; the word "#" is no comment
BETWEEN = re.compile(r"[ \t]+")
LONGEST = 10_000  # words of a sentence
LOOKED_AT = 1000  # lines by which a table with a header is told from sentences
FIRST = 100  # sentences by which the columns are named


def rows(lines: Iterable[str], path: Path, ending: str) -> Iterator[tuple[int, Row]]:
    """Yields pairs of first line and sentence: its columns by name, each a list with one item per
    word.

    Refuses lines with more or fewer columns than the first one.
    """
    sentences = _sentences(lines, path, ending)
    first = list(islice(sentences, FIRST))
    if not first:
        return
    width = len(first[0][1][0])
    names, lines_left_out = _columns(first, width, ending, path)
    for start, sentence in chain(first, sentences):
        for number, cells in enumerate(sentence, start):
            if len(cells) != width:
                raise _uneven(cells, width, f"{path}:{number}")
        own = sentence[1:] if start in lines_left_out else sentence
        if own:
            columns = zip(*own, strict=True)
            named = zip(names, map(list, columns), strict=True)
            yield start, {name: column for name, column in named if name}


def are_sentences(lines: list[str]) -> bool:
    """Whether these first lines of a file are sentences, with empty lines between them."""
    text = "".join(lines).strip()
    return any(not line.strip() for line in text.splitlines())


def _columns(
    first: list[tuple[int, Sentence]], width: int, ending: str, path: Path
) -> tuple[tuple[str, ...], set[int]]:
    """Returns the names of the columns ("" for one that is not read), and where a header stands."""
    start, sentence = first[0]
    if ending == "conllu":
        if width != len(CONLLU):
            what = f"the line has {width} columns, but .conllu files have {len(CONLLU)}"
            fix = "rename it to .conll, or write tabs between the ten columns"
            raise Refusal(what, f"{path}:{start}", fix)
        return CONLLU, set()
    header = sentence[0]
    if OF_WORDS.fullmatch(header[0]) and all(map(OF_LABELS.fullmatch, header[1:])) and width > 1:
        return (TOKENS, *header[1:]), {start}
    if _is_numbered(sentence, width):
        without = [(line, [cells[1:] for cells in words]) for line, words in first]
        return ("", *_names(without, width - 1)), set()
    if width == len(CONLL_2003):
        return CONLL_2003, set()
    return _names(first, width), set()


def _is_numbered(sentence: Sentence, width: int) -> bool:
    """Whether the first column numbers the words of each sentence."""
    numbers = [cells[0] for cells in sentence]
    return width > 2 and len(numbers) > 1 and numbers == [*map(str, range(1, len(numbers) + 1))]


def _names(first: list[tuple[int, Sentence]], width: int) -> tuple[str, ...]:
    """Returns the names of the columns of a file without a header.

    The labels are the last column that marks entities, or the last one.
    """
    if width == 1:
        return (TOKENS,)
    labels = width - 1
    for place in range(width - 1, 0, -1):
        found = {cells[place] for _, words in first for cells in words if len(cells) == width}
        if OUTSIDE in found and are_entities(found):
            labels = place
            break
    return (
        TOKENS,
        *(TAGS if place == labels else f"column_{place + 1}" for place in range(1, width)),
    )


def _sentences(lines: Iterable[str], path: Path, ending: str) -> Iterator[tuple[int, Sentence]]:
    """Yields the first line and the cells of each sentence."""
    start = 0
    sentence: Sentence = []
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
        number = BETWEEN.split(line)[0]
        return line.startswith("#") or not number.isdecimal()
    return is_first and COMMENT.match(line) is not None


def _cells(line: str) -> list[str]:
    line = line.rstrip(" \t")
    return line.split("\t") if "\t" in line else BETWEEN.split(line)


def _uneven(cells: list[str], width: int, where: str) -> Refusal:
    what = f"the line has {len(cells)} columns, but the first one has {width}: {' '.join(cells)}"
    fix = "write the word and its labels, with one tab or space between them"
    return Refusal(what, where, fix)
