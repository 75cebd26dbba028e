"""One split while it is read: each row is checked, counted and kept on disk."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import datasets
import pyarrow
from datasets.fingerprint import generate_random_fingerprint
from tqdm import tqdm

from recipes.common.data import label_spelling, labels
from recipes.common.data.arrow_buffer import Spool
from recipes.common.data.columns import Chosen
from recipes.common.data.sources import Source
from recipes.common.runtime.errors import Refusal

NO_LABEL, LEFT_OUT = "no label", "not in --label_map"  # reasons to skip a row
EMPTY = "empty text"
TRACKED_ROWS = 1_000_000  # duplicates are looked for among so many rows: about 0.1 GB
SHARES = 10_000  # of a hash: one row in so many is the smallest share that is held out

Place = Callable[[], str]  # says where a row stands
Row = dict[str, Any]


@dataclass
class Table:
    """One split while it is read: texts on disk, what is known of the labels, the account of the
    rows."""

    source: Source
    columns: Chosen
    streamed: bool
    held_out: tuple[int, int] | None = None  # of a stream: percentage and seed
    spool: Spool = field(init=False)
    label_values: list[Any] = field(default_factory=list)
    spelt: label_spelling.Spelling | None = None  # how labels are written, once all are seen
    kept_rows: list[int] | None = None  # of those on disk; None: all of them
    labels_seen: labels.Seen = field(default_factory=labels.Seen)
    skipped: Counter[str] = field(default_factory=Counter)
    digests: dict[bytes, int] = field(default_factory=dict)  # of the texts -> a hash of the label
    duplicates: int = 0
    contradictions: int = 0
    rows_read: int = 0
    unused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.spool = Spool(self.columns.written)

    @property
    def is_test(self) -> bool:
        """Whether no row may be skipped, and labels may be missing."""
        return self.source.name == "test"

    @property
    def account(self) -> dict[str, Any]:
        """Returns the numbers of rows: read = used + the sum of skipped, always."""
        used = self.rows_read - self.skipped.total()
        return {"read": self.rows_read, "used": used, "skipped": dict(self.skipped)}

    # --- Reading ---

    def read(self, most: int | None = None) -> None:
        """Reads the source once: checks, counts and (unless streaming) keeps every usable row.

        Of a remote stream only as much is read as holds `most` rows to evaluate on; the rest is
        checked in training.
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

    def usable(self, count: bool = False) -> Iterator[tuple[int, list[str], Any]]:
        """Yields row number, texts (the target last) and label; skips or refuses what cannot be
        used."""
        title = f"reading {self.source.name}"
        rows = tqdm(
            self.source.rows(), title, unit=" rows", delay=2, leave=False, disable=not count
        )
        for row, (number, values) in enumerate(rows):
            where = partial(self.source.place, number)
            texts = self._texts(values, where)
            label = self._label(values, where)
            if self.spelt:
                label = self.spelt.read(label)
            reason = self._reason_to_skip(texts, label)
            if count:
                self._count(values, texts, label, reason, where)
            if not reason:
                yield row, texts, label

    def _texts(self, values: Row, where: Place) -> list[str]:
        """Returns the texts of a row, the target last; a target may be missing."""
        texts = [self._text(values, name, where) for name in self.columns.texts]
        if target := self.columns.target:
            texts.append(self._text({target: None} | values, target, where))
        return texts

    def _text(self, values: Row, name: str, where: Place) -> str:
        """Returns the text in a column; refuses other values, and text that is no Unicode."""
        if name not in values:
            fix = f"give every row the same columns: {', '.join(self.columns.all)}"
            raise Refusal(f"the row has no {name!r}", where(), fix)
        text = values[name]
        if text is None:
            return ""
        if not isinstance(text, str):
            what = f"{name!r} must be a text, not {type(text).__name__}: {text}"
            fix = f"write it in quotes, or name another column than {name!r}"
            raise Refusal(what, where(), fix)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            what = f"{name!r} holds half a character ({text[error.start]!r})"
            fix = "write the file again with a tool that keeps Unicode whole"
            raise Refusal(what, where(), fix) from None
        return text

    def _label(self, values: Row, where: Place) -> Any:
        """Returns the label as it is written; a list of cells where each label has a column."""
        names = self.columns.labels
        cells = [label_spelling.cell(values.get(name)) for name in names]
        if len(cells) < 2:
            return cells[0] if cells else None
        missing = [name for name, cell in zip(names, cells, strict=True) if cell is None]
        if not missing:
            return cells
        if len(missing) == len(cells):
            return None
        what = f"the row has no value in the column {missing[0]!r}, but has some beside it"
        fix = "write 0 or 1 in every label's column, or nothing in any of them"
        raise Refusal(what, where(), fix)

    def _reason_to_skip(self, texts: list[str], label: Any) -> str:
        """Returns why a row is not used, or "".

        Test rows are never skipped: each gets its prediction. Blank lines are part of a text that
        runs on.
        """
        if self.is_test:
            return ""
        if not (self.columns.labels or self.columns.target):
            is_used = texts[0].strip() or self._runs_on(texts[0])
            return "" if is_used else EMPTY
        if not all(text.strip() for text in texts):
            return EMPTY
        if self.columns.labels and label is None:
            return NO_LABEL
        return ""

    def _runs_on(self, text: str) -> bool:
        """Whether the text continues in the next row."""
        if self.source.runs_on is None:
            return text.endswith("\n")
        return self.source.runs_on

    # --- Counting ---

    def _count(self, values: Row, texts: list[str], label: Any, reason: str, where: Place) -> None:
        self.rows_read += 1
        if self.rows_read == 1:
            self.unused = tuple(name for name in values if name not in self.columns.all)
        if reason:
            self.skipped[reason] += 1
            self.labels_seen.missing += reason == NO_LABEL
            return
        self.labels_seen.add(label, where())
        self._track(texts, label)

    def _track(self, texts: list[str], label: Any) -> None:
        """Counts texts that occurred before; the lines of a text that runs on may repeat."""
        if self.rows_read > TRACKED_ROWS or not any(texts) or self._runs_on(texts[0]):
            return
        digest = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest()
        own = hash(str(label))
        if digest in self.digests:
            self.duplicates += 1
            self.contradictions += self.digests[digest] != own
        else:
            self.digests[digest] = own

    def read_labels(self, spelt: label_spelling.Spelling) -> None:
        """Replaces labels by what they mean; rows that thereby have none are skipped."""
        before, self.spelt = self.labels_seen, spelt
        self.labels_seen = before.read(spelt.read)
        self.label_values = [spelt.read(value) for value in self.label_values]
        number = self.labels_seen.missing - before.missing
        if not number or self.is_test:
            return
        self.skipped[LEFT_OUT if spelt.map else NO_LABEL] += number
        values = enumerate(self.label_values)
        self.kept_rows = [row for row, value in values if value is not None]

    def _is_held_out(self, texts: list[str]) -> bool:
        """Decides by a hash of the texts, so that every pass, and every copy of a row, decides
        alike."""
        if self.held_out is None:
            return False
        percentage, seed = self.held_out
        salt = str(seed).encode()[:16]
        digest = hashlib.blake2b("\0".join(texts).encode(), digest_size=8, salt=salt).digest()
        return int.from_bytes(digest, "big") % SHARES < percentage * SHARES // 100

    # --- What comes out ---

    def dataset(self, decided: labels.Labels | None) -> datasets.Dataset | datasets.IterableDataset:
        """Returns the rows that were kept, or a stream that reads them again."""
        if self.streamed:
            return datasets.IterableDataset.from_generator(partial(self._stream, decided))
        return self.kept(decided)

    def kept(self, decided: labels.Labels | None) -> datasets.Dataset:
        """Returns the rows that the pass kept: all of them, or the part that a stream holds out."""
        if not self.spool.rows:
            fix = "raise --validation_split_percentage, or give a --validation_file"
            raise Refusal("no row was held out for validation", self.source.place(1), fix)
        table = self.spool.table
        if decided is not None and self.labels_seen.types:
            encoded = pyarrow.array(decided.encode(self.label_values))
            table = table.append_column("labels", encoded)
        # With a fingerprint of its own: otherwise all of it is read into memory, and hashed.
        dataset = datasets.Dataset(table, fingerprint=generate_random_fingerprint())
        return dataset if self.kept_rows is None else dataset.select(self.kept_rows)

    def _stream(self, decided: labels.Labels | None) -> Iterator[Row]:
        for row, texts, label in self.usable():
            if self._is_held_out(texts):
                continue
            values = dict(zip(self.columns.written, (row, *texts), strict=True))
            if decided:
                values["labels"] = decided.encode([label])[0]
            yield values
