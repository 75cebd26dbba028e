"""Where the rows of each split come from: files, or a data set in a local folder, read as one of the Hub is."""

import gzip
from types import SimpleNamespace

import datasets
import pytest

from recipes.common.config.flags import Arguments
from recipes.common.data import sources
from recipes.common.runtime.errors import Refusal


def wanted(do_train=True, do_eval=True, do_predict=True, eval_strategy="no"):
    """The four settings of TrainingArguments that decide which splits a run uses."""
    return SimpleNamespace(
        do_train=do_train, do_eval=do_eval, do_predict=do_predict, eval_strategy=eval_strategy
    )


def write(folder, *names, rows=3):
    """CSV files of `rows` rows whose texts say file and row: "train 1", "train 2", …"""
    folder.mkdir(exist_ok=True)
    for name in names:
        lines = [f"{name} {row},{'ab'[row % 2]}" for row in range(1, rows + 1)]
        (folder / f"{name}.csv").write_text("text,label\n" + "\n".join(lines) + "\n")


def texts(source):
    return [row["text"] for _, row in source.rows()]


def find(folder, needs=None, **flags):
    """The sources of the data set in `folder`."""
    arguments = Arguments(dataset_name=str(folder), cache_dir=str(folder.parent / "cache"), **flags)
    return sources.find(arguments, needs or wanted())


def test_each_file_flag_is_a_split(in_tmp_path):
    write(in_tmp_path, "a", "b", "c")
    arguments = Arguments(train_file=["a.csv"], validation_file=["b.csv"], test_file=["c.csv"])
    found = sources.find(arguments, wanted())
    assert {name: texts(source)[0] for name, source in found.items()} == {
        "train": "a 1",
        "validation": "b 1",
        "test": "c 1",
    }


def test_several_files_are_read_in_order_and_every_row_knows_its_own_file(in_tmp_path):
    write(in_tmp_path, "a", "b", rows=2)
    (in_tmp_path / "c.jsonl").write_text('{"text": "c 1", "label": "a"}\n')
    source = sources.find(
        Arguments(train_file=["b.csv", "a.csv", "c.jsonl"]), wanted(do_predict=False)
    )["train"]
    places = [source.place(number) for number, _ in source.rows()]
    assert texts(source) == ["b 1", "b 2", "a 1", "a 2", "c 1"]
    assert places == ["b.csv:2", "b.csv:3", "a.csv:2", "a.csv:3", "c.jsonl:1"]
    assert [path.name for path in source.paths] == ["b.csv", "a.csv", "c.jsonl"]


def test_one_file_name_that_is_no_list_is_one_file(in_tmp_path):
    write(in_tmp_path, "a")
    source = sources.find(Arguments(train_file="a.csv"), wanted(do_predict=False))["train"]
    assert texts(source) == ["a 1", "a 2", "a 3"]


def test_a_source_can_be_read_twice(in_tmp_path):
    write(in_tmp_path, "a")
    source = sources.find(Arguments(train_file=["a.csv"]), wanted(do_predict=False))["train"]
    assert texts(source) == texts(source) == ["a 1", "a 2", "a 3"]


@pytest.mark.parametrize(
    ("needs", "splits"),
    [
        (wanted(), ["train", "validation", "test"]),
        (wanted(do_predict=False), ["train", "validation"]),
        (wanted(do_eval=False, do_predict=False), ["train"]),
        (wanted(do_eval=False, do_predict=False, eval_strategy="epoch"), ["train", "validation"]),
        (wanted(do_train=False, do_predict=False), ["validation"]),
        (wanted(do_train=False, do_eval=False), ["test"]),
    ],
)
def test_only_the_splits_that_the_run_uses_are_opened(needs, splits, in_tmp_path):
    write(in_tmp_path, "a", "b", "c")
    arguments = Arguments(train_file=["a.csv"], validation_file=["b.csv"], test_file=["c.csv"])
    assert list(sources.find(arguments, needs)) == splits


def test_training_data_is_read_where_the_validation_rows_must_come_from_it(in_tmp_path):
    write(in_tmp_path, "a")
    found = sources.find(Arguments(train_file=["a.csv"]), wanted(do_train=False, do_predict=False))
    assert list(found) == ["train"]


def test_the_test_data_stands_in_for_missing_validation_data_with_a_note(in_tmp_path, capsys):
    write(in_tmp_path, "c")
    found = sources.find(Arguments(test_file=["c.csv"]), wanted(do_train=False, do_predict=False))
    assert texts(found["validation"]) == ["c 1", "c 2", "c 3"]
    assert "no validation data: evaluating on the test data" in capsys.readouterr().err


def test_predictions_without_test_data_are_refused(in_tmp_path):
    write(in_tmp_path, "a")
    with pytest.raises(Refusal, match="no test data") as caught:
        sources.find(Arguments(train_file=["a.csv"]), wanted(do_train=False, do_eval=False))
    assert caught.value.where == "--test_file"


def test_a_run_without_test_data_does_not_predict_and_says_so(in_tmp_path, capsys):
    write(in_tmp_path, "a")
    needs = wanted()
    assert list(sources.find(Arguments(train_file=["a.csv"]), needs)) == ["train"]
    assert needs.do_predict is False
    assert "no test data: nothing to predict" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("needs", "flag"),
    [
        (wanted(do_eval=False, do_predict=False), "--train_file"),
        (wanted(do_train=False, do_predict=False), "--validation_file"),
        (wanted(do_train=False, do_eval=False), "--test_file"),
    ],
)
def test_a_split_that_cannot_be_done_without_is_asked_for_by_its_flag(needs, flag):
    with pytest.raises(Refusal, match="no .* data") as caught:
        sources.find(Arguments(), needs)
    assert caught.value.where == flag


def test_a_local_folder_is_a_data_set_with_its_splits(tmp_path):
    write(tmp_path / "set", "train", "validation", "test")
    found = find(tmp_path / "set")
    assert texts(found["train"]) == ["train 1", "train 2", "train 3"]
    assert texts(found["validation"])[0] == "validation 1"
    assert texts(found["test"])[0] == "test 1"


def test_a_packed_file_of_a_data_set_is_unpacked(tmp_path):
    write(tmp_path / "set", "train")
    path = tmp_path / "set/train.csv"
    (tmp_path / "set/train.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    found = find(tmp_path / "set", wanted(do_predict=False))
    assert texts(found["train"]) == ["train 1", "train 2", "train 3"]


def test_a_row_of_a_data_set_is_named_by_data_set_split_and_row_from_1(tmp_path):
    write(tmp_path / "set", "train")
    source = find(tmp_path / "set", wanted(do_predict=False))["train"]
    numbers = [number for number, _ in source.rows()]
    assert numbers == [1, 2, 3]
    assert source.place(2) == f"{tmp_path / 'set'}, train, row 2"
    assert source.paths == (tmp_path / "set/train.csv",)


def test_a_split_is_chosen_by_its_name(tmp_path):
    write(tmp_path / "set", "train", "test")
    found = find(
        tmp_path / "set",
        train_split_name="test",
        validation_split_name="train",
        test_split_name="train",
    )
    assert {name: texts(source)[0] for name, source in found.items()} == {
        "train": "test 1",
        "validation": "train 1",
        "test": "train 1",
    }


def test_a_misspelt_split_name_is_refused_with_the_nearest(tmp_path):
    write(tmp_path / "set", "train", "test")
    with pytest.raises(Refusal, match="no split 'tests'") as caught:
        find(tmp_path / "set", test_split_name="tests")
    assert (caught.value.where, caught.value.fix) == ("--test_split_name", "did you mean test?")


def test_removed_splits_are_not_there(tmp_path, capsys):
    write(tmp_path / "set", "train", "validation", "test")
    assert list(find(tmp_path / "set", remove_splits="validation,test")) == ["train"]
    assert "no test data" in capsys.readouterr().err


def test_removing_a_split_that_is_not_there_is_refused(tmp_path):
    write(tmp_path / "set", "train")
    with pytest.raises(Refusal, match="no split 'unused' to remove"):
        find(tmp_path / "set", remove_splits="unused")


def test_a_local_folder_that_is_not_there_is_refused_in_one_line(tmp_path):
    with pytest.raises(Refusal, match="cannot load the data set") as caught:
        find(tmp_path / "absent")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("streaming", [False, True])
def test_class_names_of_a_parquet_file_keep_their_order(streaming, tmp_path):
    names = ["world", "sports", "business"]
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
    )
    (tmp_path / "set").mkdir()
    rows = {"text": ["x", "y", "z"], "label": [2, 0, 1]}
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "set/train.parquet")
    source = find(tmp_path / "set", wanted(do_predict=False), streaming=streaming)["train"]
    assert source.class_names == {"label": names}
    assert [row["label"] for _, row in source.rows()] == [2, 0, 1]


def test_class_names_inside_a_list_column_are_found(tmp_path):
    topics = datasets.List(datasets.ClassLabel(names=["price", "taste"]))
    features = datasets.Features({"text": datasets.Value("string"), "topics": topics})
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict({"text": ["x"], "topics": [[1, 0]]}, features).to_parquet(
        tmp_path / "set/train.parquet"
    )
    assert find(tmp_path / "set", wanted(do_predict=False))["train"].class_names == {
        "topics": ["price", "taste"]
    }


def test_a_column_without_class_names_has_none(tmp_path):
    write(tmp_path / "set", "train")
    assert find(tmp_path / "set", wanted(do_predict=False))["train"].class_names == {}


def test_a_streamed_data_set_gives_the_same_rows(tmp_path):
    write(tmp_path / "set", "train", "test")
    plain, streamed = find(tmp_path / "set"), find(tmp_path / "set", streaming=True)
    assert {name: texts(plain[name]) for name in plain} == {
        name: texts(streamed[name]) for name in streamed
    }
    assert texts(streamed["train"]) == texts(streamed["train"])


def test_parallel_texts_beside_a_table_are_refused(in_tmp_path):
    for name in ("a.en", "a.de", "more.jsonl"):
        (in_tmp_path / name).write_text('{"en": "x", "de": "y"}\n', encoding="utf-8")
    arguments = Arguments(train_file=["a.en", "a.de", "more.jsonl"])
    with pytest.raises(Refusal, match="one of several texts in parallel"):
        sources.find(arguments, wanted(), sources.Reading(languages=("en", "de")))


def test_a_data_set_that_is_a_folder_is_known_by_its_files(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "x"}\n', encoding="utf-8")
    assert sources._files_of(Arguments(dataset_name=str(tmp_path))) == (tmp_path / "train.jsonl",)
    assert sources._files_of(Arguments(dataset_name="stanfordnlp/imdb")) == ()
