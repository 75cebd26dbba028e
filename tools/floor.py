"""The floor that a text classifier should beat: counts of words and word pairs (TF-IDF) and a logistic regression.

python tools/floor.py samples/sentiment/train.csv samples/sentiment/test.csv
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from recipes.common.data import readers
from recipes.common.runtime import errors, guard, messages

# A Chinese character is a word of its own; elsewhere letters and digits that stand together are one.
WORDS = r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+"


def floor(train: Path, test: Path) -> float:
    """The accuracy on `test` after fitting on `train`; both need the columns text and label."""
    (texts, labels), (test_texts, test_labels) = _columns(train), _columns(test)
    if len(set(labels)) < 2:
        what = f"all {len(labels):,} rows have the label {labels[0]!r}"
        raise errors.Refusal(
            what, str(train), "a classifier needs two classes: add rows of another one"
        )
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORDS, sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(C=10, max_iter=2000))
    try:
        model.fit(texts, labels)
    except ValueError as error:
        raise errors.Refusal(
            f"no words to count: {messages.reason(error)}", str(train), "look at its texts"
        ) from None
    return float(model.score(test_texts, test_labels))


def _columns(path: Path) -> tuple[list[str], list[str]]:
    texts, labels = [], []
    for number, row in readers.read(path):
        if not {"text", "label"} <= row.keys():
            what = f"no columns text and label; columns: {', '.join(row)}"
            raise errors.Refusal(what, readers.place(path, number), "name them so")
        for column in ("text", "label"):
            if row[column] in (None, "") or (column == "text" and not isinstance(row[column], str)):
                what = f"the {column} is {row[column]!r}"
                raise errors.Refusal(
                    what, readers.place(path, number), "write one, or take the row out"
                )
        texts.append(row["text"])
        labels.append(str(row["label"]))
    if not texts:
        raise errors.Refusal(
            "there are no rows", str(path), "name a file with the columns text and label"
        )
    return texts, labels


def main() -> None:
    """Prints the floor of the two files named on the command line."""
    if len(sys.argv) != 3:
        raise errors.Refusal(
            "two files are needed", "the command line", "python tools/floor.py TRAIN TEST"
        )
    train, test = (readers.one(Path(name), "the command line") for name in sys.argv[1:])
    print(f"TF-IDF + logistic regression: accuracy {floor(train, test):.4f} on {test}")


if __name__ == "__main__":
    guard.run_and_exit(main)
