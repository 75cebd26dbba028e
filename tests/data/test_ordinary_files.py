"""Files as people have them: what Kaggle, Excel, pandas and datasets write is read as it is meant, or refused."""

import bz2
import gzip
import json
import lzma
import time
import zipfile

import datasets
import openpyxl
import pandas
import pyarrow
import pyarrow.feather
import pytest

from recipes.common.config.flags import Arguments
from recipes.common.data import decoding, found_files, readers, sources
from recipes.common.runtime.errors import Refusal

ROWS = [{"text": f"soup {n}, with salt", "label": ("neg", "pos")[n % 2]} for n in range(6)]
TRAIN = sources.SPLIT_NAMES["train"]
TABLE = pandas.DataFrame(ROWS)


def table(delimiter, quoted=True, end="\n", header=("text", "label"), more=""):
    """ROWS as lines of cells."""
    lines = [delimiter.join(header) + more]
    lines += [f'"{row["text"]}"{delimiter}{row["label"]}{more}' for row in ROWS]
    text = end.join(lines) + end
    return text if quoted else text.replace('"', "")


def zipped(contents):
    def write(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)

    return write


def packed(pack):
    return lambda path: path.write_bytes(pack(table(",").encode()))


def zstandard(data):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def data_set():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    return datasets.Dataset.from_list(ROWS, features)


# name of the file -> its content, or what writes it; all hold ROWS
FILES = {
    "kaggle.csv": table(",", more=",,,"),
    "cells_beyond.csv": table(",").replace("neg", "neg,,").replace("pos", "pos, "),
    "cells_missing.csv": table(",").replace("text,label", "text,label,,"),
    "index.csv": TABLE.to_csv(),
    "tabs.csv": table("\t", quoted=False),
    "quoted_tabs.csv": table("\t"),
    "bars.csv": table("|", quoted=False),
    "semicolons.csv": table(";", quoted=False),
    "commas.tsv": table(","),
    "returns.csv": table(",", end="\r"),
    "returns.tsv": table("\t", end="\r"),
    "excel.csv": "sep=;\r\n" + table(";", end="\r\n"),
    "excel_marked.csv": "\ufeffsep=;\r\n" + table(";", end="\r\n"),
    "excel_tabs.csv": '"sep=\t"\n' + table("\t"),
    "excel_bare_tab.csv": "sep=\t\n" + table("\t"),
    "train.json": json.dumps({"train": ROWS}),
    "splits.json": json.dumps({"test": ROWS[:1], "train": ROWS}, indent=1),
    "records.json": json.dumps({"version": "1", "records": ROWS}),
    "columns.json": TABLE.to_json(),
    "index.json": TABLE.to_json(orient="index"),
    "split.json": TABLE.to_json(orient="split"),
    "table.json": TABLE.to_json(orient="table"),
    "lists.json": json.dumps(TABLE.to_dict("list")),
    "x.ndjson": TABLE.to_json(orient="records", lines=True),
    "X.JSONLINES": TABLE.to_json(orient="records", lines=True),
    "x.tab": table("\t"),
    "x.csv.gz": packed(gzip.compress),
    "x.CSV.BZ2": packed(bz2.compress),
    "x.csv.xz": packed(lzma.compress),
    "x.csv.zst": packed(zstandard),
    "two_frames.csv.zst": lambda path: path.write_bytes(
        b"".join(map(zstandard, _halves(table(",").encode())))
    ),
    "x.csv.zip": zipped({"x.csv": table(",")}),
    "archive.zip": zipped(
        {"d/spam.csv": table(","), "__MACOSX/d/._spam.csv": "x", "README.md": "x"}
    ),
    "x.feather": lambda path: pyarrow.feather.write_feather(pyarrow.Table.from_pylist(ROWS), path),
    "x.xlsx": lambda path: TABLE.to_excel(path, index=False),
    "index.xlsx": lambda path: TABLE.to_excel(path),
    "folder": lambda path: _folder(path, a_csv=table(","), README_md="x", _SUCCESS=""),
    "parts.csv": lambda path: _folder(path, _SUCCESS="", part_csv=table(",")),
    "saved": lambda path: data_set().save_to_disk(path),
    "splits": lambda path: datasets.DatasetDict(train=data_set(), test=data_set()).save_to_disk(
        path
    ),
}


def _halves(data):
    return data[:50], data[50:]


def _folder(path, **contents):
    path.mkdir()
    for name, content in contents.items():
        (path / (name if name.startswith("_") else name.replace("_", "."))).write_text(content)


def written(folder, name, content):
    path = folder / name
    if callable(content):
        content(path)
    else:
        path.write_text(content, encoding="utf-8", newline="")
    return path


def rows_of(path, split=TRAIN):
    paths = found_files.expand([str(path)], "--train_file", (), split)
    return [row for one in paths for _, row in readers.read(one, readers.Options(split=split))]


def refused(path, split=TRAIN):
    with pytest.raises(Refusal) as caught:
        rows_of(path, split)
    assert len(str(caught.value).splitlines()) == 3
    return caught.value


def test_there_are_many_kinds():
    assert len(FILES) >= 30


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_holds_the_same_rows(name, tmp_path):
    rows = rows_of(written(tmp_path, name, FILES[name]))
    names = ["neg", "pos"]
    labels = [
        names[row["label"]] if isinstance(row["label"], int) else row["label"].strip()
        for row in rows
    ]
    assert [row["text"] for row in rows] == [row["text"] for row in ROWS]
    assert labels == [row["label"] for row in ROWS]


@pytest.mark.parametrize("name", ["tabs.csv", "bars.csv", "commas.tsv"])
def test_a_delimiter_that_the_name_does_not_promise_is_said_once(name, tmp_path, capsys):
    path = written(tmp_path, name, FILES[name])
    rows_of(path), list(readers.read(path))
    assert capsys.readouterr().err.count("its cells are separated by") == 1


def test_columns_without_a_name_are_named_by_their_place_as_pandas_does(tmp_path):
    (row, *_) = rows_of(written(tmp_path, "x.csv", ",text,label,,\n0,a,b,,c\n"))
    assert row == {
        "Unnamed: 0": "0",
        "text": "a",
        "label": "b",
        "Unnamed: 3": "",
        "Unnamed: 4": "c",
    }


def test_cells_with_content_beyond_the_header_are_refused(tmp_path):
    assert "3 cells" in refused(written(tmp_path, "x.csv", "text,label\na,b,c\n")).what


QUOTED = {
    "a line break first": (
        'text\tlabel\n"two\nlines"\ta\nplain\tb\n',
        [(2, "two\nlines"), (4, "plain")],
    ),
    "a line break last": (
        'label\ttext\na\t"two\n\nlines"\nb\tplain\n',
        [(2, "two\n\nlines"), (5, "plain")],
    ),
    "a tab": ('text\tlabel\n"a\ttab"\ta\nplain\tb\n', [(2, "a\ttab"), (3, "plain")]),
    "a quote that opens nothing": (
        'text\tlabel\n"open\ta\nplain\tb\n',
        [(2, '"open'), (3, "plain")],
    ),
    "a quote that opens nothing, last": (
        'label\ttext\na\t"open\nb\tplain\n',
        [(2, '"open'), (3, "plain")],
    ),
    "at the end": ('label\ttext\na\tplain\nb\t"open\n\n', [(2, "plain"), (3, '"open')]),
    "quotes within": (
        'text\tlabel\na "b" c\ta\n"a ""b"" c"\tb\n',
        [(2, 'a "b" c'), (3, 'a "b" c')],
    ),
    "one column": ('text\n"open\nplain\n', [(2, '"open'), (3, "plain")]),
}


@pytest.mark.parametrize("case", QUOTED)
def test_quotes_in_a_tsv_file_enclose_what_must_be_enclosed(case, tmp_path):
    content, expected = QUOTED[case]
    path = written(tmp_path, "x.tsv", content)
    assert [(number, row["text"]) for number, row in readers.read(path)] == expected


def test_a_quote_that_never_closes_costs_no_row_silently(tmp_path):
    path = written(tmp_path, "x.tsv", 'text\tlabel\n"open\n' + "plain\ta\n" * 3000)
    refusal = refused(path)
    assert (refusal.where, "1 cells" in refusal.what) == (f"{path}:2", True)


REFUSED = {
    "several lists": ("x.json", json.dumps({"a": ROWS, "b": ROWS}), "several lists: a, b"),
    "a list in a file of lines": ("x.jsonl", json.dumps(ROWS), "give it the ending .json"),
    "two files in an archive": (
        "x.zip",
        zipped({"train.csv": table(","), "test.csv": table(",")}),
        "unzip x.zip",
    ),
    "an archive of nothing": ("x.zip", zipped({}), "unzip x.zip"),
    "a plain file called gz": ("x.csv.gz", table(","), "rename it to x.csv"),
    "a plain file called zst": ("x.csv.zst", table(","), "rename it to x.csv"),
    "a plain file called zip": ("x.zip", table(","), "pack or download"),
    "a folder of no data": (
        "folder",
        lambda path: _folder(path, x_bin="x"),
        "no file that can be read",
    ),
    "a folder of folders": (
        "folder",
        lambda path: (path / "pos").mkdir(parents=True),
        "folder/**/*.txt",
    ),
    "a folder of both splits": (
        "folder",
        lambda path: _folder(path, train_csv=table(","), test_csv=table(",")),
        "name the files that are meant",
    ),
    "no first line of names": ("x.csv", "5,good,5\n1,bad,1\n", "write the columns' names above it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_be_meant_in_two_ways_is_refused(case, tmp_path):
    name, content, words = REFUSED[case]
    assert words in str(refused(written(tmp_path, name, content)))


@pytest.mark.parametrize("name", ["x.csv.gz", "x.CSV.BZ2", "x.csv.xz", "x.csv.zst", "x.csv.zip"])
@pytest.mark.parametrize("left", [0.5, 0.95])
def test_half_a_packed_file_is_refused_and_not_taken_for_the_whole(name, left, tmp_path):
    path = written(tmp_path, name, FILES[name])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])
    assert "data is broken" in refused(path).what


def test_an_empty_file_among_others_is_said_and_an_empty_one_alone_refused(in_tmp_path, capsys):
    for name, content in {"a.csv": table(","), "b.csv": "", "c.csv": table(",")}.items():
        written(in_tmp_path, name, content)
    assert len(rows_of("*.csv")) == 12
    assert "b.csv is empty" in capsys.readouterr().err
    assert "the file is empty" in refused("b.csv").what


def test_a_list_of_another_split_is_not_taken_for_the_wanted_one(in_tmp_path):
    written(in_tmp_path, "x.json", json.dumps({"train": ROWS, "test": ROWS[:2]}))
    assert len(rows_of("x.json", ("test",))) == 2
    assert "several lists" in refused("x.json", ("validation", "dev")).what


@pytest.mark.parametrize(
    "name", ["saved", "splits", "x.parquet", "saved/data-00000-of-00001.arrow"]
)
def test_names_of_classes_come_with_the_files_that_hold_them(name, in_tmp_path):
    data_set().save_to_disk("saved")
    datasets.DatasetDict(train=data_set()).save_to_disk("splits")
    data_set().to_parquet("x.parquet")
    found = sources.find(Arguments(train_file=[name]), _needs())["train"]
    assert found.class_names == {"label": ["neg", "pos"]}


def test_files_that_name_their_classes_otherwise_are_refused(in_tmp_path):
    data_set().to_parquet("a.parquet")
    other = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])}
    )
    datasets.Dataset.from_list(ROWS, other).to_parquet("b.parquet")
    with pytest.raises(Refusal, match="have other names, or another order"):
        sources.find(Arguments(train_file=["a.parquet", "b.parquet"]), _needs())


class _needs:
    do_train, do_eval, do_predict, eval_strategy = True, False, False, "no"


@pytest.mark.parametrize("streaming", [False, True])
def test_what_save_to_disk_left_is_a_data_set_with_its_splits(streaming, in_tmp_path):
    datasets.DatasetDict(train=data_set(), test=data_set().select(range(2))).save_to_disk("splits")
    needs = _needs()
    needs.do_predict = True
    found = sources.find(Arguments(dataset_name="splits", streaming=streaming), needs)
    assert {name: len(list(source.rows())) for name, source in found.items()} == {
        "train": 6,
        "test": 2,
    }
    assert found["train"].place(7).startswith("splits/train/data-00000")


def test_what_save_to_disk_left_names_no_file_outside(in_tmp_path):
    data_set().save_to_disk("saved")
    (in_tmp_path / "saved/data-00000-of-00001.arrow").rename(in_tmp_path / "outside.arrow")
    state = json.loads((in_tmp_path / "saved/state.json").read_text())
    state["_data_files"] = [{"filename": "../outside.arrow"}]
    (in_tmp_path / "saved/state.json").write_text(json.dumps(state))
    assert "not what save_to_disk leaves" in refused("saved").what


@pytest.mark.parametrize("ending", ["arrow", "feather"])
def test_an_arrow_file_with_any_byte_changed_is_read_or_refused(ending, tmp_path):
    data_set().save_to_disk(tmp_path / "saved")
    path = tmp_path / f"x.{ending}"
    if ending == "arrow":
        (tmp_path / "saved/data-00000-of-00001.arrow").rename(path)
    else:
        pyarrow.feather.write_feather(
            pyarrow.Table.from_pylist(ROWS), path, compression="uncompressed"
        )
    whole, refusals = path.read_bytes(), 0
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            list(readers.read(path))
        except Refusal as refusal:
            refusals += "not a readable Arrow file" in str(refusal)
    assert refusals > 10


def test_cells_of_a_workbook_are_what_excel_would_export(tmp_path):
    book = openpyxl.Workbook()
    book.active.append([None, "text", "label", "when", None])
    book.active.append([1, "a", 2, pandas.Timestamp("2026-01-02 03:04:05").to_pydatetime()])
    book.active.append([])
    book.active.append([None, "b", True, 0.5])
    book.create_sheet("notes").append(["x"])
    book.save(tmp_path / "x.xlsx")
    decoding.begin_to_speak()
    assert list(readers.read(tmp_path / "x.xlsx")) == [
        (2, {"Unnamed: 0": "1", "text": "a", "label": "2", "when": "2026-01-02 03:04:05"}),
        (4, {"Unnamed: 0": "", "text": "b", "label": "TRUE", "when": "0.5"}),
    ]


def test_without_openpyxl_the_refusal_says_how_to_export(tmp_path, monkeypatch):
    path = written(tmp_path, "x.xlsx", FILES["x.xlsx"])
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    assert "pip install openpyxl" in refused(path).fix and "CSV UTF-8" in refused(path).fix


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.json", "x.jsonl"])
def test_sixty_thousand_columns_take_seconds(name, tmp_path):
    columns = ["text", "label", *(f"c{number}" for number in range(60_000))]
    row = dict.fromkeys(columns, "0")
    delimiter = {"x.csv": ",", "x.tsv": "\t"}.get(name, "")
    lines = [delimiter.join(columns), *[delimiter.join(row.values())] * 3]
    content = "\n".join(lines) if delimiter else "\n".join([json.dumps(row)] * 3)
    path = written(tmp_path, name, content if name != "x.json" else json.dumps([row] * 3))
    began = time.process_time()
    assert [len(found) for found in rows_of(path)] == [60_002] * 3
    assert time.process_time() - began < 5


@pytest.mark.parametrize("name", ["x.csv", "x.json"])
def test_one_name_twice_among_sixty_thousand_is_found_in_seconds(name, tmp_path):
    columns = [*(f"c{number}" for number in range(60_000)), "c59999"]
    pairs = ", ".join(f'"{column}": 0' for column in columns)
    path = written(tmp_path, name, ",".join(columns) if name == "x.csv" else "{" + pairs + "}")
    began = time.process_time()
    assert "'c59999' appears twice" in refused(path).what
    assert time.process_time() - began < 5


def test_the_home_folder_is_understood_where_no_shell_has_replaced_it(in_tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(in_tmp_path))
    written(in_tmp_path, "x.csv", table(","))
    assert len(rows_of("~/x.csv")) == len(rows_of("~/*.csv")) == 6


ADDRESSES = {
    "https://x.org/a.csv": "curl -LO https://x.org/a.csv",
    "s3://bucket/a.csv": "aws s3 cp s3://bucket/a.csv",
    "gs://bucket/a.csv": "gcloud storage cp",
    "hf://datasets/me/x/a.csv": "--dataset_name OWNER/NAME",
    "file:///data/a.csv": "name the path: /data/a.csv",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_refused_with_how_to_get_the_file(address):
    assert ADDRESSES[address] in refused(address).fix
