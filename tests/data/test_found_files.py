"""Paths, patterns and folders -> files: each once, in order, and never a part of them in silence."""

import pytest

from recipes.common.data import found_files
from recipes.common.runtime.errors import Refusal


def write(folder, name):
    (folder / name).write_text("text\nx\n")


def test_a_glob_names_its_files_in_order_and_each_once(in_tmp_path):
    for name in ("part-2.csv", "part-10.csv", "part-1.csv", "other.csv"):
        write(in_tmp_path, name)
    paths = found_files.expand(
        ["part-2.csv", "part-*.csv", "other.csv", "./other.csv"], "--train_file"
    )
    assert [path.name for path in paths] == ["part-2.csv", "part-1.csv", "part-10.csv", "other.csv"]


def test_two_stars_look_into_every_folder(in_tmp_path):
    (in_tmp_path / "a/b").mkdir(parents=True)
    write(in_tmp_path, "top.csv")
    write(in_tmp_path, "a/b/deep.csv")
    assert {path.name for path in found_files.expand(["**/*.csv"], "--train_file")} == {
        "top.csv",
        "deep.csv",
    }


def test_a_file_whose_name_looks_like_a_glob_is_that_file(in_tmp_path):
    write(in_tmp_path, "x[1].csv")
    assert [path.name for path in found_files.expand(["x[1].csv"], "--train_file")] == ["x[1].csv"]


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "a\ud800", "a" * 300 + "/b.csv", "[", "**/["])
def test_a_name_that_no_file_can_have_is_a_file_that_is_not_there(name):
    with pytest.raises(Refusal, match="no such file"):
        found_files.expand([name], "--train_file")


@pytest.mark.parametrize("flag", ["--file", "--forbidden_words"])
def test_a_pattern_of_several_files_is_not_read_in_part(flag, in_tmp_path):
    for name in ("a.txt", "b.txt"):
        write(in_tmp_path, name)
    with pytest.raises(Refusal, match="names 2 files"):
        found_files.one("*.txt", flag)


def test_a_missing_file_is_refused_with_what_the_folder_shows(in_tmp_path):
    for name in (".hidden", "a.csv", "b.csv"):
        write(in_tmp_path, name)
    with pytest.raises(Refusal) as caught:
        found_files.expand(["reviews.csv"], "--train_file")
    assert caught.value.fix == ". holds a.csv, b.csv"
