"""Reads one split: checks and counts each row, and keeps it on disk."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import datasets
import pyarrow
from datasets.fingerprint import generate_random_fingerprint
from tqdm import tqdm

from recipes.common.data import label_spelling
from recipes.common.data.arrow_buffer import DiskTable
from recipes.common.data.column_kinds import TEXT, Kind, Place
from recipes.common.data.columns import Chosen
from recipes.common.data.labels import Labels
from recipes.common.data.seen_labels import SeenLabels
from recipes.common.data.sources import Source
from recipes.common.runtime.errors import Refusal

NO_LABEL, LEFT_OUT = "no label", "not in --label_map"  # reasons to skip a row
EMPTY = "empty text"
TRACKED_ROWS = 1_000_000  # rows among which duplicates are looked for: about 0.1 GB
SHARES = 10_000  # parts into which a hash divides the rows

Row = dict[str, Any]
Text = str | list[str]  # a text, or its words


@dataclass
class Table:
    """Holds one split while it is read: its texts on disk, its labels, and the counts of its
    rows."""

    source: Source
    columns: Chosen
    streamed: bool
    held_out: tuple[int, int] | None = None  # of a stream: percentage and seed
    spool: DiskTable = field(init=False)
    label_values: list[Any] = field(default_factory=list)
    spelt: label_spelling.Spelling | None = None  # how labels are written, once all are seen
    kept_rows: list[int] | None = None  # the rows on disk that are used; None: all of them
    labels_seen: SeenLabels = field(default_factory=SeenLabels)
    skipped: Counter[str] = field(default_factory=Counter)
    digests: dict[bytes, int] = field(default_factory=dict)  # hash of texts -> hash of label
    duplicates: int = 0
    contradictions: int = 0
    has_answers: bool = False  # whether the source has the label's or the target's column
    unanswered: int = 0  # rows without labels of words, or without a target
    rows_read: int = 0
    unused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.spool = DiskTable(self.columns.written)

    @property
    def is_test(self) -> bool:
        """Whether this is the test split: no row is skipped, and labels may be missing."""
        return self.source.name == "test"

    @property
    def account(self) -> dict[str, Any]:
        """Returns the numbers of rows: read = used + the sum of skipped, always."""
        used = self.rows_read - self.skipped.total()
        return {"read": self.rows_read, "used": used, "skipped": dict(self.skipped)}

    @property
    def unscored(self) -> int:
        """Returns how many test rows have no label or target, although the column is there."""
        if not self.is_test or not self.has_answers:
            return 0
        if self.columns.labels and not self.columns.label_kind.per_word:
            return self.labels_seen.missing
        return self.unanswered

    # --- Reading ---

    def read(self, most: int | None = None) -> None:
        """Reads the source once: checks, counts and (unless streaming) keeps every usable row.

        Reads a remote stream until it has `most` rows for evaluation. Training checks the rest.
        """
        for row, texts, label in self.usable(count=True):
            if most and (self.spool.rows >= most or self.rows_read >= 100 * most):
                break
            if self.streamed and not self._is_held_out(texts):
                continue
            self.spool.add(row, *texts)
            if self.columns.labels:
                self.label_values.append(label)
        if not self.account["used"]:
            reasons = [f"{count} {reason}" for reason, count in self.skipped.items()]
            what = f"no usable row ({', '.join(reasons)})"
            fix = f"check the columns {', '.join(self.columns.all)}"
            raise Refusal(what, self.source.place(1), fix)

    def usable(self, count: bool = False) -> Iterator[tuple[int, list[Text], Any]]:
        """Yields row number, texts (the target last) and label; skips or refuses what cannot be
        used."""
        title = f"reading {self.source.name}"
        rows = tqdm(
            self.source.rows(), title, unit=" rows", delay=2, leave=False, disable=not count
        )
        for row, (number, values) in enumerate(rows):
            where = partial(self.source.place, number)
            texts = self._texts(values, where)
            label = self._meaning(self._label(values, texts, where))
            reason = self._reason_to_skip(texts, label)
            if count:
                self._count(values, texts, label, reason, where)
            if not reason:
                yield row, texts, label

    def _texts(self, values: Row, where: Place) -> list[Text]:
        """Returns the texts of a row, the target last; a target may be missing."""
        kind = self.columns.text_kind
        texts = [self._cell(values, name, kind, where) for name in self.columns.texts]
        if target := self.columns.target:
            texts.append(self._cell({target: None} | values, target, TEXT, where))
        return texts

    def _cell(self, values: Row, name: str, kind: Kind, where: Place) -> Any:
        """Returns what a column holds; refuses a row without it."""
        if name not in values:
            fix = f"give every row the same columns: {', '.join(self.columns.all)}"
            raise Refusal(f"the row has no {name!r}", where(), fix)
        return kind.read(values[name], name, where)

    def _label(self, values: Row, texts: list[Text], where: Place) -> Any:
        """Returns the label as it is written; a list of cells where each label has a column."""
        names, kind = self.columns.labels, self.columns.label_kind
        cells = [kind.read(values.get(name), name, where) for name in names]
        if kind.per_word and cells[0] is not None:
            _check_numbers(texts[0], cells[0], where)
        if len(cells) < 2:
            return cells[0] if cells else None
        missing = [name for name, cell in zip(names, cells, strict=True) if cell is None]
        if not missing:
            return cells
        if len(missing) == len(cells):
            return None
        elsewhere = "but has one in another label's column"
        what = f"the row has no value in the column {missing[0]!r}, {elsewhere}"
        fix = "write 0 or 1 in every label's column, or nothing in any of them"
        raise Refusal(what, where(), fix)

    def _meaning(self, label: Any) -> Any:
        """Returns what a label means, once it is known how labels are written."""
        if self.spelt is None or label is None:
            return label
        if self.columns.label_kind.per_word:
            return list(map(self.spelt.read, label))
        return self.spelt.read(label)

    def _reason_to_skip(self, texts: list[Text], label: Any) -> str:
        """Returns why a row is not used, or "".

        Test rows are never skipped: each gets its prediction. Blank lines are part of a text that
        continues from row to row.
        """
        if self.is_test:
            return ""
        if not (self.columns.labels or self.columns.target):
            is_used = _plain(texts[0]).strip() or self._continues(texts[0])
            return "" if is_used else EMPTY
        if not all(_plain(text).strip() for text in texts):
            return EMPTY
        if self.columns.labels and label is None:
            return NO_LABEL
        return ""

    def _continues(self, text: Text) -> bool:
        """Whether the text continues in the next row."""
        if self.source.continues_before is None:
            return _plain(text).endswith("\n")
        return self.source.continues_before

    # --- Counting ---

    def _count(self, values: Row, texts: list[Text], label: Any, reason: str, where: Place) -> None:
        self.rows_read += 1
        if self.rows_read == 1:
            self.unused = tuple(name for name in values if name not in self.columns.all)
            self.has_answers = any(name in values for name in self.columns.answers)
        if reason:
            self.skipped[reason] += 1
            self.labels_seen.missing += reason == NO_LABEL
            return
        answer = _plain(texts[-1]).strip() if self.columns.target else label
        self.unanswered += answer in (None, "")
        if self.columns.label_kind.per_word and label is not None:
            for one, words in Counter(label).items():
                self.labels_seen.add(one, where(), words)
        else:
            self.labels_seen.add(label, where())
        self._track(texts, label)

    def _track(self, texts: list[Text], label: Any) -> None:
        """Counts texts that occurred before; lines of a text that continues may repeat."""
        if self.rows_read > TRACKED_ROWS or not any(texts) or self._continues(texts[0]):
            return
        joined = "\0".join(map(_plain, texts))
        digest = hashlib.blake2b(joined.encode(), digest_size=8).digest()
        own = hash(str(label))
        if digest in self.digests:
            self.duplicates += 1
            self.contradictions += self.digests[digest] != own
        else:
            self.digests[digest] = own

    def read_labels(self, spelt: label_spelling.Spelling) -> None:
        """Replaces labels by what they mean. Skips the rows that have no label then."""
        before, self.spelt = self.labels_seen, spelt
        self.labels_seen = before.read(spelt.read)
        self.label_values = list(map(self._meaning, self.label_values))
        number = self.labels_seen.missing - before.missing
        if not number or self.is_test or self.columns.label_kind.per_word:
            return
        self.skipped[LEFT_OUT if spelt.map else NO_LABEL] += number
        values = enumerate(self.label_values)
        self.kept_rows = [row for row, value in values if value is not None]

    def _is_held_out(self, texts: list[Text]) -> bool:
        """Whether a row is held out. A hash of its texts decides, so that the answer is the same in
        every pass and for every copy of the row."""
        if self.held_out is None:
            return False
        percentage, seed = self.held_out
        salt = str(seed).encode()[:16]
        joined = "\0".join(map(_plain, texts))
        digest = hashlib.blake2b(joined.encode(), digest_size=8, salt=salt).digest()
        return int.from_bytes(digest, "big") % SHARES < percentage * SHARES // 100

    # --- What comes out ---

    def dataset(self, decided: Labels | None) -> datasets.Dataset | datasets.IterableDataset:
        """Returns the rows that were kept, or a stream that reads them again."""
        if self.streamed:
            return datasets.IterableDataset.from_generator(partial(self._stream, decided))
        return self.kept(decided)

    def kept(self, decided: Labels | None) -> datasets.Dataset:
        """Returns the rows that the pass kept: all of them, or the part that a stream holds out."""
        if not self.spool.rows:
            fix = "raise --validation_split_percentage, or give a --validation_file"
            raise Refusal("no row was held out for validation", self.source.place(1), fix)
        table = self.spool.table
        if decided is not None and self.labels_seen.types:
            encoded = pyarrow.array(decided.encode(self.label_values))
            table = table.append_column("labels", encoded)
        # Without a fingerprint, datasets would read the whole table into memory, to hash it.
        dataset = datasets.Dataset(table, fingerprint=generate_random_fingerprint())
        return dataset if self.kept_rows is None else dataset.select(self.kept_rows)

    def _stream(self, decided: Labels | None) -> Iterator[Row]:
        for row, texts, label in self.usable():
            if self._is_held_out(texts):
                continue
            values: Row = dict(zip(self.columns.written, (row, *texts), strict=True))
            if decided:
                values["labels"] = decided.encode([label])[0]
            yield values


def _plain(text: Text) -> str:
    """Returns a text as it stands, or its words with spaces between them."""
    return text if isinstance(text, str) else " ".join(text)


def _check_numbers(words: Sequence[str], labels: Sequence[Any], where: Place) -> None:
    """Refuses a row whose numbers of words and labels differ."""
    if len(words) != len(labels):
        what = f"the row has {len(words)} words and {len(labels)} labels"
        raise Refusal(what, where(), "write one label for each word")
