"""One split while it is read: each row is checked, counted and kept on disk."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import datasets
import pyarrow
from datasets.fingerprint import generate_random_fingerprint
from tqdm import tqdm

from recipes.common.data import label_spelling, labels
from recipes.common.data.arrow_buffer import Spool
from recipes.common.data.sources import Source
from recipes.common.runtime.errors import Refusal

NO_LABEL, LEFT_OUT = "no label", "not in --label_map"  # reasons to skip a row
# The columns of the data sets and of predictions.jsonl that are not the user's, and what tokenizers write.
OWN = {"row_id", "label", "labels", "prediction", "scores", "loss", "length", "width", "truncated"}
OWN |= {
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "special_tokens_mask",
    "position_ids",
    "decoder_input_ids",
}
OWN |= {
    "offset_mapping",
    "overflowing_tokens",
    "num_truncated_tokens",
    "overflow_to_sample_mapping",
}
TRACKED_ROWS = 1_000_000  # duplicates are looked for among so many rows: about 0.1 GB


@dataclass
class Chosen:
    """The columns that are read: the texts, and a label (or a column for each label) or a target text."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    target: str = ""

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(name for name in (*self.texts, *self.labels, self.target) if name)

    @property
    def written(self) -> tuple[str, ...]:
        """The columns of the splits, but for the encoded labels."""
        return ("row_id", *(inner(name) for name in (*self.texts, self.target) if name))


def inner(name: str) -> str:
    """The user's column as the splits call it: as the user does, but for the names that are their own."""
    return f"{name} (column)" if name in OWN else name


@dataclass
class Table:
    """One split while it is read: texts on disk, what is known of the labels, and the account of the rows."""

    source: Source
    columns: Chosen
    streamed: bool
    held_out: tuple[int, int] | None = None  # of a stream: percentage and seed
    spool: Spool = field(init=False)
    label_values: list[Any] = field(default_factory=list)
    spelt: label_spelling.Spelling | None = (
        None  # how labels are written, once all of them were seen
    )
    kept_rows: list[int] | None = None  # of those on disk; None: all of them
    labels_seen: labels.Seen = field(default_factory=labels.Seen)
    skipped: Counter = field(default_factory=Counter)
    digests: dict[bytes, int] = field(default_factory=dict)  # of the texts -> a hash of the label
    duplicates: int = 0
    contradictions: int = 0
    rows_read: int = 0
    unused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.spool = Spool(self.columns.written)

    @property
    def is_test(self) -> bool:
        return self.source.name == "test"

    @property
    def account(self) -> dict[str, Any]:
        """read = used + the sum of skipped, always."""
        used = self.rows_read - sum(self.skipped.values())
        return {"read": self.rows_read, "used": used, "skipped": dict(self.skipped)}

    def read(self, most: int | None = None) -> None:
        """One pass over the source: checks, counts and (unless streaming) keeps every usable row.

        Of a remote stream only as much is read as holds `most` rows to evaluate on; the rest is checked in training.
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
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
            fix = f"check the columns {', '.join(self.columns.all)}"
            raise Refusal(f"no usable row ({reasons})", self.source.place(1), fix)

    def usable(self, count: bool = False) -> Iterator[tuple[int, list[str], Any]]:
        """Triples of row number, texts (the target last) and label; skips, or refuses, what cannot be used."""
        rows = self.source.rows()
        progress = tqdm(
            rows,
            f"reading {self.source.name}",
            unit=" rows",
            delay=2,
            leave=False,
            disable=not count,
        )
        for row, (number, values) in enumerate(progress):
            where = partial(self.source.place, number)
            texts = [self._text(values, name, where) for name in self.columns.texts]
            if self.columns.target:
                texts.append(
                    self._text({self.columns.target: None} | values, self.columns.target, where)
                )
            label = self._label(values, where)
            if self.spelt:
                label = self.spelt.read(label)
            reason = self._reason_to_skip(texts, label)
            if count:
                self._count(values, texts, label, reason, where)
            if not reason:
                yield row, texts, label

    def _label(self, values: dict, where: Any) -> Any:
        """What the label's cell says by itself; a list of cells where each label has a column."""
        cells = [label_spelling.cell(values.get(name)) for name in self.columns.labels]
        if len(cells) < 2:
            return next(iter(cells), None)
        empty = next(
            (name for name, cell in zip(self.columns.labels, cells, strict=True) if cell is None),
            None,
        )
        if empty is None or not any(cell is not None for cell in cells):
            return cells if empty is None else None
        fix = "write 0 or 1 in every label's column, or nothing in any of them"
        raise Refusal(
            f"the row has no value in the column {empty!r}, but has some beside it", where(), fix
        )

    def _count(self, values: dict, texts: list[str], label: Any, reason: str, where: Any) -> None:
        self.rows_read += 1
        if self.rows_read == 1:
            self.unused = tuple(name for name in values if name not in self.columns.all)
        if reason:
            self.skipped.update([reason])
            self.labels_seen.missing += reason == NO_LABEL
            return
        self.labels_seen.add(label, where())
        self._track(texts, label)

    def _text(self, values: dict, name: str, where: Any) -> str:
        if name not in values:
            fix = f"give every row the same columns: {', '.join(self.columns.all)}"
            raise Refusal(f"the row has no {name!r}", where(), fix)
        text = values[name]
        if text is None:
            return ""
        if not isinstance(text, str):
            what = f"{name!r} must be a text, not {type(text).__name__}: {text}"
            raise Refusal(
                what, where(), f"write it in quotes, or name another column than {name!r}"
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            what = f"{name!r} holds half a character ({text[error.start]!r})"
            raise Refusal(
                what, where(), "write the file again with a tool that keeps Unicode whole"
            ) from None
        return text

    def _reason_to_skip(self, texts: list[str], label: Any) -> str:
        """Test rows are never skipped: each gets its prediction. Blank lines are part of a text that runs on."""
        if self.is_test:
            return ""
        if not (self.columns.labels or self.columns.target):
            return "" if texts[0].strip() or self._runs_on(texts[0]) else "empty text"
        if not all(text.strip() for text in texts):
            return "empty text"
        return NO_LABEL if self.columns.labels and label is None else ""

    def _runs_on(self, text: str) -> bool:
        return text.endswith("\n") if self.source.runs_on is None else self.source.runs_on

    def _track(self, texts: list[str], label: Any) -> None:
        """Remembers which texts there were; the lines of a text that runs on repeat as they like."""
        if self.rows_read > TRACKED_ROWS or not any(texts) or self._runs_on(texts[0]):
            return
        digest = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).digest()
        if digest in self.digests:
            self.duplicates += 1
            self.contradictions += self.digests[digest] != hash(str(label))
        self.digests.setdefault(digest, hash(str(label)))

    def read_labels(self, spelt: label_spelling.Spelling) -> None:
        """Puts what the labels mean in the place of what is written; rows that thereby have none are skipped."""
        before, written, self.spelt = self.labels_seen, self.label_values, spelt
        self.labels_seen = before.read(spelt.read)
        self.label_values = list(map(spelt.read, written))
        number = self.labels_seen.missing - before.missing
        if not number or self.is_test:
            return
        self.skipped[LEFT_OUT if spelt.map else NO_LABEL] += number
        self.kept_rows = [row for row, value in enumerate(self.label_values) if value is not None]

    def _is_held_out(self, texts: list[str]) -> bool:
        """By a hash of the texts, so that every pass, and every copy of a row, decides alike."""
        if self.held_out is None:
            return False
        percentage, seed = self.held_out
        digest = hashlib.blake2b(
            "\0".join(texts).encode(), digest_size=8, salt=str(seed).encode()[:16]
        ).digest()
        return int.from_bytes(digest, "big") % 10_000 < percentage * 100

    def dataset(self, decided: labels.Labels | None) -> datasets.Dataset | datasets.IterableDataset:
        """The rows that were kept, or a stream that reads them again."""
        if self.streamed:
            return datasets.IterableDataset.from_generator(partial(self._stream, decided))
        return self.kept(decided)

    def kept(self, decided: labels.Labels | None) -> datasets.Dataset:
        """The rows that the pass kept: all of them, or the part that a stream holds out."""
        if not self.spool.rows:
            fix = "raise --validation_split_percentage, or give a --validation_file"
            raise Refusal("no row was held out for validation", self.source.place(1), fix)
        table = self.spool.table
        if decided is not None and self.labels_seen.types:
            table = table.append_column("labels", pyarrow.array(decided.encode(self.label_values)))
        dataset = datasets.Dataset(
            table, fingerprint=generate_random_fingerprint()
        )  # or it is hashed in memory
        return dataset if self.kept_rows is None else dataset.select(self.kept_rows)

    def _stream(self, decided: labels.Labels | None) -> Iterator[dict[str, Any]]:
        for row, texts, label in self.usable():
            if not self._is_held_out(texts):
                labels_column = {"labels": decided.encode([label])[0]} if decided else {}
                yield dict(zip(self.columns.written, (row, *texts), strict=True)) | labels_column
