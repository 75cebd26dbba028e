"""Sources -> checked splits: every row is used or accounted for, and the same seed gives the same rows."""

import json
import random
from collections import Counter
from functools import partial

import datasets
import pytest
from transformers import TrainingArguments

from recipes.common.config.flags import Arguments
from recipes.common.data import arrow_buffer, limits, sources, splits
from recipes.common.data.columns import Columns
from recipes.common.data.labels import MULTI, REGRESSION
from recipes.common.runtime import hashing
from recipes.common.runtime.errors import Refusal

SPLITS = ("train", "validation", "test")
TEN = [{"text": f"text {row}", "label": "ab"[row % 2]} for row in range(10)]


def load(
    folder, train=None, validation=None, test=None, columns=(), second=None, training=None, **flags
):
    """The splits of these rows, written as JSON lines into the folder; `training`: flags of TrainingArguments."""
    for name, rows in zip(SPLITS, (train, validation, test), strict=True):
        if rows is not None:
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            flags[f"{name}_file"] = [f"{name}.jsonl"]
    chosen = {"do_train": True, "do_eval": True, "do_predict": test is not None, **(training or {})}
    return splits.load_splits(
        Arguments(**flags),
        TrainingArguments(output_dir="out", use_cpu=True, **chosen),
        texts=Columns(
            "--text_column_names", list(columns), [("text",), ("premise", "hypothesis")], second
        ),
        label=Columns("--label_column_name", [None], [("label",)]),
    )


def balanced(splits):
    return all(
        one["read"] == one["used"] + sum(one["skipped"].values())
        for one in splits.accounting.values()
    )


def messy(generator, number):
    """Rows of which some have an empty text or no label, and some repeat an earlier one."""
    texts = ["", " ", "\t\n", None, *(f"text {position}" for position in range(number))]
    labels = [None, "", "a", "a", "b", "b", "c", "c"]
    rows = [
        {"text": generator.choice(texts), "label": generator.choice(labels)} for _ in range(number)
    ]
    return rows + [{"text": f"{name} {copy}", "label": name} for name in "abc" for copy in range(4)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("streaming", [False, True])
def test_every_row_read_is_used_or_skipped_for_a_reason(seed, streaming, in_tmp_path):
    generator = random.Random(seed)
    rows = {name: messy(generator, generator.randrange(1, 60)) for name in SPLITS}
    if seed % 3 == 0:
        del rows["validation"]
    limits = ("max_train_samples", "max_eval_samples", "max_predict_samples")
    flags = {name: generator.randrange(1, 30) for name in limits if generator.random() < 0.5}
    splits = load(in_tmp_path, **rows, streaming=streaming, validation_split_percentage=30, **flags)
    assert balanced(splits)
    for name in rows:
        assert splits.accounting[name]["read"] == len(rows[name])
    for name, split in splits.items():
        assert splits.accounting[name]["used"] == len(list(split))


def test_rows_without_text_or_label_are_skipped_in_training_with_their_counts(in_tmp_path, capsys):
    odd = [{"text": " ", "label": "a"}, {"text": None, "label": "a"}, {"text": "x", "label": None}]
    splits = load(in_tmp_path, TEN + odd, TEN)
    assert splits.accounting["train"] == {
        "read": 13,
        "used": 10,
        "skipped": {"empty text": 2, "no label": 1},
    }
    assert splits.train["text"] == [row["text"] for row in TEN]
    warned = capsys.readouterr().err
    assert "train: 2 of 13 rows skipped: empty text" in warned
    assert "train: 1 of 13 rows skipped: no label" in warned


def test_no_test_row_is_skipped_and_each_keeps_its_place(in_tmp_path):
    rows = [
        {"text": "x", "label": "a"},
        {"text": "", "label": "b"},
        {"text": None, "label": "a"},
        {"text": "y"},
    ]
    splits = load(in_tmp_path, TEN, TEN, rows)
    assert splits.accounting["test"] == {"read": 4, "used": 4, "skipped": {}}
    assert splits.test.to_dict() == {
        "row_id": [0, 1, 2, 3],
        "text": ["x", "", "", "y"],
        "labels": [0, 1, 0, -100],
    }


def test_a_row_number_is_the_position_as_read_also_after_skipped_rows(in_tmp_path):
    splits = load(in_tmp_path, [{"text": "", "label": "a"}, *TEN], TEN)
    assert splits.train["row_id"] == list(range(1, 11))


def test_test_data_without_labels_has_no_column_of_them(in_tmp_path):
    splits = load(in_tmp_path, TEN, TEN, [{"text": "x"}, {"text": "y"}])
    assert splits.test.column_names == ["row_id", "text"]


def test_minus_1_in_test_data_is_a_missing_label_as_in_glue(in_tmp_path):
    train = [{"text": f"text {row}", "label": row % 2} for row in range(10)]
    splits = load(
        in_tmp_path, train, train, [{"text": "x", "label": -1}, {"text": "y", "label": 1}]
    )
    assert splits.test["labels"] == [-100, 1]


@pytest.mark.parametrize(
    ("values", "encoded"),
    [([-1, 0, 1], [0, 1, 2]), ([-1.0, 0.5, 1.0], [-1.0, 0.5, 1.0])],
    ids=["classes", "ratings"],
)
def test_minus_1_in_test_data_is_a_label_where_training_has_it_too(values, encoded, in_tmp_path):
    rows = [{"text": f"text {row}", "label": values[row % 3]} for row in range(9)]
    splits = load(
        in_tmp_path, rows, rows, [{"text": f"new {value}", "label": value} for value in values]
    )
    assert splits.test["labels"] == encoded


def test_minus_1_among_ratings_is_one(in_tmp_path):
    """A trained model alone rates the rows: there is no training data that could have one."""
    train = [{"text": f"text {row}", "label": row / 20} for row in range(10)]
    test = [{"text": f"new {value}", "label": value} for value in (-1.0, -0.5, 1.0)]
    assert load(in_tmp_path, train, train, test).test["labels"] == [-1.0, -0.5, 1.0]


def test_test_data_with_nothing_but_minus_1_has_no_labels(in_tmp_path):
    train = [{"text": f"text {row}", "label": row % 2} for row in range(10)]
    splits = load(in_tmp_path, train, train, [{"text": "x", "label": -1}])
    assert splits.test.column_names == ["row_id", "text"]


def hundred():
    """90 rows of class a and 10 of class b."""
    return [{"text": f"text {row}", "label": "b" if row % 10 == 0 else "a"} for row in range(100)]


def test_held_out_rows_have_the_classes_in_the_same_shares(in_tmp_path):
    splits = load(in_tmp_path, hundred(), validation_split_percentage=20)
    assert Counter(splits.train["labels"]) == {0: 72, 1: 8}
    assert Counter(splits.validation["labels"]) == {0: 18, 1: 2}
    assert splits.accounting["train"] == {
        "read": 100,
        "used": 80,
        "skipped": {"held out for validation": 20},
    }
    assert splits.accounting["validation"] == {"read": 20, "used": 20, "skipped": {}}


def test_held_out_rows_and_training_rows_are_all_rows_in_order(in_tmp_path):
    splits = load(in_tmp_path, hundred())
    assert sorted([*splits.train["row_id"], *splits.validation["row_id"]]) == list(range(100))
    assert splits.train["row_id"] == sorted(splits.train["row_id"])
    assert splits.validation["row_id"] == sorted(splits.validation["row_id"])


@pytest.mark.parametrize("line_breaks", [True, False])
def test_of_a_text_that_runs_on_the_end_is_held_out(line_breaks, in_tmp_path):
    """Single lines of it would be missing in the middle of what is learned."""
    (in_tmp_path / "book.txt").write_text(
        "".join(f"line {number}\n" for number in range(20)), encoding="utf-8"
    )
    found = splits.load_splits(
        Arguments(train_file=["book.txt"]),
        TrainingArguments(output_dir="out", use_cpu=True, do_train=True, do_eval=True),
        texts=Columns("--text_column_name", [None], [("text",)]),
        reading=sources.Reading(line_breaks=line_breaks),
    )
    assert len(found.validation) == 2
    assert ("".join(found.validation["text"]) == "line 18\nline 19") == line_breaks


def test_a_text_that_runs_on_is_whole_and_keeps_its_order(in_tmp_path):
    """A blank last line ends a file; it was skipped, and the next file went on in the text."""
    (in_tmp_path / "a.txt").write_text("one\ntwo\n\n", encoding="utf-8")
    (in_tmp_path / "b.txt").write_text("three\n", encoding="utf-8")
    texts = Columns("--text_column_name", [None], [("text",)])
    training = TrainingArguments(output_dir="out", use_cpu=True, do_train=True)
    read = partial(
        splits.load_splits,
        training_arguments=training,
        texts=texts,
        reading=sources.Reading(line_breaks=True),
    )
    found = read(Arguments(train_file=["a.txt", "b.txt"]))
    assert found.train["text"][:] == ["one\n", "two\n", "", "three"]
    assert found.whole == ()
    with pytest.raises(Refusal, match="stay in their order"):
        read(Arguments(train_file=["a.txt"], shuffle_train_dataset=True))


def test_a_stream_that_nobody_has_counted_ends_at_the_limit():
    rows = datasets.IterableDataset.from_generator(
        lambda: ({"text": str(row)} for row in range(10))
    )
    account = {"used": 2, "skipped": {}}  # so many were read to evaluate on
    assert len(list(limits.cut(rows, "train", Arguments(max_train_samples=3), account))) == 3
    assert account == {"used": 2, "skipped": {}}


def test_rows_of_a_table_are_whole_texts(in_tmp_path):
    splits = load(
        in_tmp_path, [{"text": f"def f{row}():\n", "label": "ab"[row % 2]} for row in range(20)]
    )
    assert set(splits.whole) == {"train", "validation"}


@pytest.mark.parametrize("streaming", [False, True])
def test_the_seed_chooses_the_held_out_rows(streaming, in_tmp_path):
    def held_out(seed):
        splits = load(in_tmp_path, hundred(), streaming=streaming, training={"seed": seed})
        return splits.validation["row_id"]

    assert held_out(1) == held_out(1)
    assert held_out(1) != held_out(2)


def test_so_much_held_out_that_training_has_no_row_of_each_class_does_not_hinder_the_split(
    in_tmp_path,
):
    rows = [{"text": f"text {row}", "label": f"class {row % 10}"} for row in range(30)]
    splits = load(in_tmp_path, rows, validation_split_percentage=70)
    assert (len(splits.train), len(splits.validation)) == (9, 21)


def test_a_class_of_one_row_does_not_hinder_the_split(in_tmp_path):
    splits = load(in_tmp_path, [*hundred(), {"text": "alone", "label": "c"}])
    assert len(splits.validation) == 10
    assert splits.labels.counts == [90, 10, 1]


def test_the_first_rows_are_taken_unless_they_are_shuffled(in_tmp_path):
    first = load(in_tmp_path, hundred(), TEN, max_train_samples=7)
    shuffled = load(in_tmp_path, hundred(), TEN, max_train_samples=7, shuffle_train_dataset=True)
    other = load(
        in_tmp_path, hundred(), TEN, max_train_samples=7, shuffle_train_dataset=True, shuffle_seed=7
    )
    assert first.train["row_id"] == list(range(7))
    assert len(shuffled.train) == len(other.train) == 7
    assert sorted(shuffled.train["row_id"]) != list(range(7))
    assert shuffled.train["row_id"] != other.train["row_id"]


def test_what_a_limit_cuts_is_accounted_for(in_tmp_path):
    splits = load(
        in_tmp_path, TEN, TEN, TEN, max_train_samples=6, max_eval_samples=5, max_predict_samples=50
    )
    assert splits.accounting == {
        "train": {"read": 10, "used": 6, "skipped": {"over --max_train_samples": 4}},
        "validation": {"read": 10, "used": 5, "skipped": {"over --max_eval_samples": 5}},
        "test": {"read": 10, "used": 10, "skipped": {}},
    }


def test_repeated_and_contradicting_and_shared_texts_are_counted(in_tmp_path, capsys):
    again = [TEN[0], TEN[1], {"text": TEN[2]["text"], "label": "b"}]
    load(in_tmp_path, TEN + again, TEN[:4], TEN[4:5])
    warned = capsys.readouterr().err
    assert "train: 3 rows repeat an earlier text, 1 with another label" in warned
    assert "4 texts stand in both train and validation" in warned
    assert "1 texts stand in both train and test" in warned
    assert "both validation and test" not in warned


def test_clean_data_gives_no_warning(in_tmp_path, capsys):
    other = [{"text": f"other {row['text']}", "label": row["label"]} for row in TEN]
    load(in_tmp_path, TEN, other)
    assert "warning" not in capsys.readouterr().err


def test_test_data_that_stands_in_for_validation_data_does_not_warn_of_an_overlap(
    in_tmp_path, capsys
):
    load(in_tmp_path, test=TEN, training={"do_train": False})
    warned = capsys.readouterr().err
    assert "evaluating on the test data" in warned
    assert "stand in both" not in warned


def test_columns_that_are_not_used_are_named(in_tmp_path, capsys):
    load(in_tmp_path, [{**row, "stars": 3, "shop": "x"} for row in TEN], TEN)
    assert "note: train: columns not used: stars, shop" in capsys.readouterr().err


def plain_rows(split):
    return sorted((row["row_id"], row["text"], row["labels"]) for row in split)


def test_streamed_rows_are_the_rows_of_the_file_in_another_order(in_tmp_path):
    rows = [{"text": "", "label": "a"}, *hundred(), {"text": "x", "label": None}]
    held = load(in_tmp_path, rows, TEN)
    streamed = load(in_tmp_path, rows, TEN, streaming=True)
    assert isinstance(streamed.train, datasets.IterableDataset)
    assert plain_rows(streamed.train) == plain_rows(held.train)
    assert [row["row_id"] for row in streamed.train] != [row["row_id"] for row in held.train]
    assert streamed.accounting == held.accounting
    assert streamed.labels == held.labels


@pytest.mark.parametrize("seed", range(3))
def test_held_out_rows_are_never_in_the_stream(seed, in_tmp_path):
    rows = hundred() + hundred()[:50]
    splits = load(
        in_tmp_path, rows, streaming=True, validation_split_percentage=30, training={"seed": seed}
    )
    streamed, held_out = list(splits.train), list(splits.validation)
    assert len(streamed) + len(held_out) == 150
    assert not {row["text"] for row in streamed} & {row["text"] for row in held_out}
    assert 25 <= len(held_out) <= 65  # 45 of 150 expected


def streamed_steps(folder, rows, training, **flags):
    """The --max_steps of a run that streams so many rows."""
    path = folder / "train.csv"
    path.write_text(
        "text,label\n" + "".join(f"text {row},{'ab'[row % 2]}\n" for row in range(rows))
    )
    training_arguments = TrainingArguments("out", use_cpu=True, do_train=True, **training)
    columns = (Columns("", [], [("text",)]), Columns("", [], [("label",)]))
    splits.load_splits(
        Arguments(train_file=[str(path)], streaming=True, **flags), training_arguments, *columns
    )
    return training_arguments.max_steps


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "epochs", "steps"),
    [
        (8, 4, 1, 1, 2),
        (8, 2, 2, 3, 6),
        (9, 4, 1, 1, 3),  # the last batch is not full
        (10, 4, 2, 1, 2),
        (3, 4, 1, 2, 2),
        (8, 4, 1, 0.5, 1),
        (12, 4, 1, 0.1, 1),
    ],
)
def test_a_stream_trains_as_many_steps_as_the_same_rows_in_memory(
    rows, batch, accumulation, epochs, steps, in_tmp_path
):
    training = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
    assert streamed_steps(in_tmp_path, rows, {**training, "num_train_epochs": epochs}) == steps


def test_a_stream_counts_only_the_rows_that_it_trains_on_for_its_steps(in_tmp_path):
    training = {"num_train_epochs": 3, "per_device_train_batch_size": 2}
    assert streamed_steps(in_tmp_path, 10, training, max_train_samples=4) == 6


def test_max_steps_that_was_given_stays(in_tmp_path):
    assert streamed_steps(in_tmp_path, 100, {"max_steps": 5}) == 5


def test_a_stream_can_be_cut_to_its_first_rows(in_tmp_path):
    splits = load(in_tmp_path, hundred(), TEN, streaming=True, max_train_samples=12)
    assert sorted(row["row_id"] for row in splits.train) == list(range(12))


ROWS = {"title": ["a", "b"], "body": ["c", "d"], "reply": ["e", "f"]}


@pytest.mark.parametrize(
    ("columns", "is_pair", "first", "second"),
    [
        (["title"], False, ["a", "b"], None),
        (["title", "body"], False, ["a|c", "b|d"], None),
        (["body", "title", "reply"], False, ["c|a|e", "d|b|f"], None),
        (["title", "reply"], True, ["a", "b"], ["e", "f"]),
        (["title", "body", "reply"], True, ["a|c", "b|d"], ["e", "f"]),
    ],
)
def test_columns_are_joined_and_the_last_of_a_pair_stays_apart(columns, is_pair, first, second):
    assert splits.join(ROWS, columns, "|", is_pair) == (first, second)


def test_joining_leaves_the_rows_as_they_are():
    rows = {name: list(values) for name, values in ROWS.items()}
    splits.join(rows, ["title", "body", "reply"], " ", True)
    assert rows == ROWS


@pytest.mark.parametrize(
    ("columns", "second", "texts", "is_pair"),
    [
        ((), None, ("text",), False),
        (("title",), None, ("title",), False),
        (("title", "text"), None, ("title", "text"), False),
        ((), "title", ("text", "title"), True),
        (("title", "text"), "premise", ("title", "text", "premise"), True),
    ],
)
def test_which_columns_are_read_and_whether_they_are_a_pair(
    columns, second, texts, is_pair, in_tmp_path
):
    rows = [{**row, "title": "t", "premise": "p", "hypothesis": "h"} for row in TEN]
    splits = load(in_tmp_path, rows, rows, columns=columns, second=second)
    assert (splits.texts, splits.is_pair) == (texts, is_pair)


def test_a_known_pair_of_columns_is_found_by_its_names(in_tmp_path):
    rows = [
        {"premise": f"p {row}", "hypothesis": f"h {row}", "label": "ab"[row % 2]}
        for row in range(10)
    ]
    splits = load(in_tmp_path, rows, rows)
    assert (splits.texts, splits.is_pair) == (("premise", "hypothesis"), True)


def test_a_removed_column_is_not_read(in_tmp_path):
    rows = [
        {"text": f"t {row}", "premise": "p", "hypothesis": "h", "label": "ab"[row % 2]}
        for row in range(10)
    ]
    assert load(in_tmp_path, rows, rows, remove_columns="text").texts == ("premise", "hypothesis")


def test_a_removed_label_column_is_missing(in_tmp_path):
    with pytest.raises(Refusal, match="no column 'label'"):
        load(in_tmp_path, TEN, TEN, remove_columns="label")


def test_a_pair_with_one_empty_side_is_skipped(in_tmp_path):
    rows = [{**row, "title": "" if position == 3 else "t"} for position, row in enumerate(TEN)]
    splits = load(in_tmp_path, rows, [{**row, "title": "t"} for row in TEN], second="title")
    assert splits.accounting["train"]["skipped"] == {"empty text": 1}


def test_the_content_of_every_file_is_hashed(in_tmp_path):
    splits = load(in_tmp_path, TEN, TEN[:4], TEN[4:])
    names = [f"{name}.jsonl" for name in SPLITS]
    assert splits.hashes == {name: hashing.content_hash(in_tmp_path / name) for name in names}


@pytest.mark.parametrize(
    ("values", "kind", "encoded"),
    [
        ([["a"], ["a", "b"], []], MULTI, [[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]),
        ([1.5, 2.0, -0.5], REGRESSION, [1.5, 2.0, -0.5]),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_several_labels_and_ratings_are_encoded_alike_in_memory_and_streamed(
    values, kind, encoded, streaming, in_tmp_path
):
    rows = [{"text": f"text {row}", "label": value} for row, value in enumerate(values)]
    splits = load(in_tmp_path, rows, rows, streaming=streaming)
    assert splits.labels.kind == kind
    assert [row["labels"] for row in sorted(splits.train, key=lambda row: row["row_id"])] == encoded


def test_more_rows_than_one_chunk_are_all_kept_in_order(in_tmp_path, monkeypatch):
    monkeypatch.setattr(arrow_buffer, "ROWS", 7)
    splits = load(in_tmp_path, hundred(), TEN)
    assert splits.train["row_id"] == list(range(100))
    assert splits.train["text"] == [row["text"] for row in hundred()]


@pytest.mark.parametrize(
    ("labels", "unscored"),
    [
        ([-1] * 10, 10),
        ([""] * 10, 10),
        ([None] * 10, 10),
        (["nan"] * 3 + ["a"] * 7, 3),
        (["a", ""] * 5, 5),
        (["a", "b"] * 5, 0),
    ],
)
def test_test_rows_without_a_label_are_counted_and_said(labels, unscored, in_tmp_path, capsys):
    rows = zip(TEN, labels, strict=True)
    test = [{"text": f"other {row['text']}", "label": label} for row, label in rows]
    load(in_tmp_path, TEN, test=test)
    told = "rows have no answer in 'label': they get predictions, but no scores"
    told = f"note: test: {unscored} of 10 {told}" if unscored else "not scored"
    assert (told in capsys.readouterr().err) == bool(unscored)


def test_a_test_set_without_the_label_s_column_says_that_it_is_not_scored(in_tmp_path, capsys):
    other = [{"text": f"other {row['text']}", "sentiment": row["label"]} for row in TEN]
    load(in_tmp_path, TEN, test=other)
    told = "note: the test data has no column 'label', but text, sentiment: its rows get predictions, but no scores"
    assert told in capsys.readouterr().err
    load(in_tmp_path, TEN, test=[{**row, "text": f"other {row['text']}"} for row in TEN])
    assert "not scored" not in capsys.readouterr().err
