"""Files -> rows: the same rows from every format, as they stand in the file, each with its place."""

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from recipes.common.data import readers
from recipes.common.runtime.errors import Refusal

ROWS = [
    {"text": "good soup", "label": "a"},
    {"text": "冷たい, cold", "label": "b"},
    {"text": 'the "best"', "label": "a"},
]


def as_csv(delimiter):
    lines = [f"text{delimiter}label"]
    lines += ['"' + row["text"].replace('"', '""') + '"' + delimiter + row["label"] for row in ROWS]
    return ("\n".join(lines) + "\n").encode()


def as_parquet():
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), sink)
    return sink.getvalue().to_pybytes()


JSON_LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
# file name -> (content, the numbers of its three rows: lines where the format has lines)
FORMATS = {
    "comma.csv": (as_csv(","), [2, 3, 4]),
    "semicolon.csv": (as_csv(";"), [2, 3, 4]),
    "tab.tsv": (as_csv("\t"), [2, 3, 4]),
    "lines.jsonl": (JSON_LINES.encode(), [1, 2, 3]),
    "escaped.jsonl": ("".join(json.dumps(row) + "\n" for row in ROWS).encode(), [1, 2, 3]),
    "lines.json": (JSON_LINES.encode(), [1, 2, 3]),
    "array.json": (json.dumps(ROWS).encode(), [1, 2, 3]),
    "indented.json": (json.dumps(ROWS, indent=2).encode(), [1, 2, 3]),
    "data.json": (json.dumps({"version": 1, "data": ROWS}).encode(), [1, 2, 3]),
    "indented_data.json": (json.dumps({"data": ROWS}, indent=2).encode(), [1, 2, 3]),
    "table.parquet": (as_parquet(), [1, 2, 3]),
}


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(path):
    return [row for _, row in readers.read(path)]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows_with_their_numbers(name, tmp_path):
    content, numbers = FORMATS[name]
    read = list(readers.read(write(tmp_path, name, content)))
    assert [row for _, row in read] == ROWS
    assert [number for number, _ in read] == numbers


@pytest.mark.parametrize("name", FORMATS)
def test_a_compressed_file_gives_what_the_plain_file_gives(name, tmp_path):
    content, _ = FORMATS[name]
    plain = write(tmp_path, name, content)
    compressed = write(tmp_path, f"{name}.gz", gzip.compress(content))
    assert list(readers.read(compressed)) == list(readers.read(plain))


@pytest.mark.parametrize("name", ["DATA.CSV", "Data.Csv.GZ"])
def test_the_case_of_a_file_ending_does_not_matter(name, tmp_path):
    content = gzip.compress(as_csv(",")) if name.endswith("GZ") else as_csv(",")
    assert rows_of(write(tmp_path, name, content)) == ROWS


def test_a_text_file_has_one_row_a_line_and_keeps_empty_lines_and_spaces(tmp_path):
    path = write(tmp_path, "x.txt", "first\n\n  third \nlast without end")
    assert list(readers.read(path)) == [
        (1, {"text": "first"}),
        (2, {"text": ""}),
        (3, {"text": "  third "}),
        (4, {"text": "last without end"}),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["comma.csv", "tab.tsv", "lines.jsonl", "array.json"])
def test_every_unicode_encoding_gives_the_same_rows(encoding, name, tmp_path):
    marked = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    content = (marked + FORMATS[name][0].decode()).encode(encoding)
    assert rows_of(write(tmp_path, name, content)) == ROWS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unusual_characters_do_not_end_a_line(encoding, tmp_path):
    lines = [
        "one\u2028still one",
        "two\x85still two",
        "three\x0bstill three",
        "four\x0cstill four",
        "five\x1cstill",
    ]
    path = write(tmp_path, "x.txt", "\n".join(lines).encode(encoding))
    assert [row["text"] for row in rows_of(path)] == lines


@pytest.mark.parametrize(
    "name", ["comma.csv", "semicolon.csv", "tab.tsv", "lines.jsonl", "lines.json"]
)
def test_windows_line_ends_give_the_same_rows_and_numbers(name, tmp_path):
    content, numbers = FORMATS[name]
    read = list(readers.read(write(tmp_path, name, content.replace(b"\n", b"\r\n"))))
    assert [row for _, row in read] == ROWS
    assert [number for number, _ in read] == numbers


def test_a_text_file_with_windows_line_ends_keeps_no_carriage_return(tmp_path):
    assert rows_of(write(tmp_path, "x.txt", "a\r\nb\r\n")) == [{"text": "a"}, {"text": "b"}]


def test_a_line_break_in_a_quoted_cell_is_kept_and_later_lines_are_counted_right(tmp_path):
    path = write(
        tmp_path, "x.csv", 'text,label\n"two\nlines",a\nplain,b\n"three\n\nlines",a\nlast,b\n'
    )
    assert list(readers.read(path)) == [
        (2, {"text": "two\nlines", "label": "a"}),
        (4, {"text": "plain", "label": "b"}),
        (5, {"text": "three\n\nlines", "label": "a"}),
        (8, {"text": "last", "label": "b"}),
    ]


def test_empty_lines_in_a_csv_are_no_rows_but_count_as_lines(tmp_path):
    path = write(tmp_path, "x.csv", "text,label\n\na,1\n\n\nb,2\n\n")
    assert [(number, row["text"]) for number, row in readers.read(path)] == [(3, "a"), (6, "b")]


def test_empty_lines_in_tsv_and_jsonl_are_no_rows_but_count_as_lines(tmp_path):
    tsv = write(tmp_path, "x.tsv", "text\tlabel\n\na\t1\n\nb\t2\n")
    lines = write(tmp_path, "x.jsonl", '\n{"text": "a"}\n\n{"text": "b"}\n')
    assert [number for number, _ in readers.read(tsv)] == [3, 5]
    assert [number for number, _ in readers.read(lines)] == [2, 4]


def test_a_comma_in_the_header_makes_the_file_comma_separated(tmp_path):
    path = write(tmp_path, "x.csv", "text,label\nsoup; warm,a\n")
    assert rows_of(path) == [{"text": "soup; warm", "label": "a"}]


def test_quotes_in_a_tsv_cell_stay_unless_they_enclose_it(tmp_path):
    path = write(
        tmp_path, "x.tsv", 'text\tlabel\nthe "best" soup\ta\n"quoted ""twice"""\tb\n5" pizza\tc\n'
    )
    assert [row["text"] for row in rows_of(path)] == [
        'the "best" soup',
        'quoted "twice"',
        '5" pizza',
    ]


@pytest.mark.parametrize(
    "word", ["NA", "N/A", "null", "None", "nan", "NaN", "true", "1", "007", "2.50", "1e5", " x "]
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_cell_stays_the_text_that_it_is(word, delimiter, tmp_path):
    name = "x.tsv" if delimiter == "\t" else "x.csv"
    path = write(tmp_path, name, f"text{delimiter}label\n{word}{delimiter}{word}\n")
    assert rows_of(path) == [{"text": word, "label": word}]


def test_json_and_parquet_values_keep_their_types(tmp_path):
    row = {"text": "x", "label": 2, "score": 0.5, "flag": True, "list": ["a", "b"], "none": None}
    parquet = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), parquet)
    for path in (
        parquet,
        write(tmp_path, "x.jsonl", json.dumps(row)),
        write(tmp_path, "x.json", json.dumps([row])),
    ):
        (read,) = rows_of(path)
        assert read == row
        assert [type(value) for value in read.values()] == [type(value) for value in row.values()]


def test_one_object_in_a_json_file_is_one_row(tmp_path):
    assert rows_of(write(tmp_path, "x.json", '{\n  "text": "a"\n}\n')) == [{"text": "a"}]
    assert rows_of(write(tmp_path, "y.json", '{"text": "a"}\n')) == [{"text": "a"}]


def test_a_parquet_file_with_several_row_groups_is_numbered_through(tmp_path):
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"text": [str(row) for row in range(2500)]}), path, row_group_size=700
    )
    assert list(readers.read(path)) == [(row + 1, {"text": str(row)}) for row in range(2500)]


def test_a_column_name_loses_the_spaces_around_it(tmp_path):
    assert rows_of(write(tmp_path, "x.csv", "text, label\na, 1\n")) == [
        {"text": "a", "label": " 1"}
    ]


def test_rows_come_one_at_a_time_and_not_all_at_once(tmp_path):
    path = write(tmp_path, "x.csv", "text,label\ngood,a\none cell too few\n")
    rows = readers.read(path)
    assert next(rows) == (2, {"text": "good", "label": "a"})
    with pytest.raises(Refusal, match="1 cells"):
        next(rows)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x.txt", "x.txt:7"),
        ("x.csv", "x.csv:7"),
        ("x.tsv", "x.tsv:7"),
        ("x.jsonl", "x.jsonl:7"),
        ("x.csv.gz", "x.csv.gz:7"),
        ("X.CSV", "X.CSV:7"),
        ("x.json", "x.json, row 7"),
        ("x.parquet", "x.parquet, row 7"),
        ("x.parquet.gz", "x.parquet.gz, row 7"),
    ],
)
def test_a_place_is_a_line_where_the_format_has_lines_and_a_row_elsewhere(name, shown):
    assert readers.place(Path(name), 7) == shown


@pytest.mark.parametrize("compression", ["snappy", "none"])
def test_a_parquet_file_with_any_byte_changed_is_read_or_refused(compression, tmp_path):
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS * 50), path, compression=compression)
    whole, refusals = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            list(readers.read(path))
        except Refusal as refusal:
            refusals += 1
            assert "not a readable parquet file" in str(refusal)
            assert "x.parquet, row" in refusal.where
    assert refusals > 20


def test_a_parquet_page_whose_checksum_is_wrong_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    table = pyarrow.Table.from_pylist(ROWS * 50)
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pyarrow.parquet.write_table(table, path, **options)
    path.write_bytes(path.read_bytes().replace(b"good soup", b"food soup"))
    with pytest.raises(Refusal, match="CRC"):
        list(readers.read(path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "x.jsonl",
            '{"text": "a"}\n{"text": "a", "text": "b"}\n',
            ["'text' appears twice", "x.jsonl:2"],
        ),
        ("x.json", '[{"text": {"en": "a", "en": "b"}}]', ["'en' appears twice", "x.json"]),
        ("x.jsonl", '{"text": "a", "label": ' + "9" * 5000 + "}\n", ["digits", "x.jsonl:1"]),
    ],
)
def test_json_that_no_reader_agrees_about_is_refused(name, content, words, tmp_path):
    with pytest.raises(Refusal) as refusal:
        list(readers.read(write(tmp_path, name, content)))
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("line_breaks", [False, True])
@pytest.mark.parametrize("ending", ["txt", "csv", "tsv", "jsonl"])
def test_a_compressed_file_of_nothing_has_no_rows(ending, line_breaks, tmp_path):
    path = tmp_path / f"x.{ending}.gz"
    path.write_bytes(gzip.compress(b""))
    assert list(readers.read(path, readers.Options(line_breaks=line_breaks))) == []
