"""Measures the accuracy that a text classifier should beat.

It is that of a logistic regression on counts of words and word pairs (TF-IDF).

python tools/floor.py samples/sentiment/train.csv samples/sentiment/test.csv
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from recipes.common.data import found_files, readers
from recipes.common.data.writing_systems import UNSPACED_RANGES
from recipes.common.runtime import errors, guard, messages

# A character of a script without spaces is a word. Elsewhere letters and digits that stand together
# are one.
WORD = rf"[{UNSPACED_RANGES}]|[^\W{UNSPACED_RANGES}]+"


def floor(train: Path, test: Path) -> float:
    """Returns the accuracy on `test` after fitting on `train`; both have columns text and label."""
    texts, labels = _columns(train)
    test_texts, test_labels = _columns(test)
    if len(set(labels)) < 2:
        what = f"all {len(labels):,} rows have the label {labels[0]!r}"
        fix = "add rows of another class: a classifier needs two"
        raise errors.Refusal(what, str(train), fix)
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD, sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(C=10, max_iter=2000))
    try:
        model.fit(texts, labels)
    except ValueError as error:
        what = f"no words to count: {messages.reason(error)}"
        raise errors.Refusal(what, str(train), "look at its texts") from None
    return float(model.score(test_texts, test_labels))


def _columns(path: Path) -> tuple[list[str], list[str]]:
    texts, labels = [], []
    for number, row in readers.read(path):
        if not {"text", "label"} <= row.keys():
            what = f"no columns text and label; columns: {', '.join(row)}"
            fix = "rename the columns to text and label"
            raise errors.Refusal(what, readers.place(path, number), fix)
        column = _missing(row)
        if column:
            what = f"the {column} is {row[column]!r}"
            fix = "write one, or remove the row"
            raise errors.Refusal(what, readers.place(path, number), fix)
        texts.append(row["text"])
        labels.append(str(row["label"]))
    if not texts:
        fix = "name a file with the columns text and label"
        raise errors.Refusal("there are no rows", str(path), fix)
    return texts, labels


def _missing(row: dict[str, Any]) -> str:
    """Returns which of text and label a row does not have; "" where it has both."""
    if not isinstance(row["text"], str) or not row["text"]:
        return "text"
    if row["label"] in (None, ""):
        return "label"
    return ""


def main() -> None:
    """Prints the accuracy for the two files that the command line names."""
    if len(sys.argv) != 3:
        fix = "python tools/floor.py TRAIN TEST"
        raise errors.Refusal("two files are needed", "the command line", fix)
    train, test = (found_files.one(Path(name), "the command line") for name in sys.argv[1:])
    print(f"TF-IDF + logistic regression: accuracy {floor(train, test):.4f} on {test}")


if __name__ == "__main__":
    guard.run_and_exit(main)
