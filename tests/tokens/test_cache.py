"""Prepared tokens: written once for the same content, mapped, rebuilt where they are damaged."""

import tempfile

import numpy
import pytest

from recipes.common.runtime.errors import Refusal
from recipes.common.tokens import cache


@pytest.fixture
def writes():
    """A function that writes 1, 2, 3 and counts how often it does."""

    def write(folder):
        write.times += 1
        numpy.asarray([1, 2, 3], dtype=cache.TYPE).tofile(folder / "ids.bin")
        return {"tokens": 3}

    write.times = 0
    return write


def test_the_same_content_is_written_once_and_read_again(tmp_path, writes):
    for _ in range(2):
        arrays, facts = cache.arrays(str(tmp_path / "new/folder"), {"texts": "a"}, writes)
        assert arrays["ids"].tolist() == [1, 2, 3]
        assert isinstance(arrays["ids"], numpy.memmap)
        assert facts == {"tokens": 3}
    assert writes.times == 1


def test_other_content_is_written_beside_it(tmp_path, writes):
    for made_of in ({"texts": "a"}, {"texts": "b"}, {"texts": "a", "room": 4}):
        cache.arrays(str(tmp_path), made_of, writes)
    assert writes.times == len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ["ids.bin", cache.FACTS, "manifest.json"])
@pytest.mark.parametrize("content", [b"", b"\x01\x00\x00"])
def test_what_is_damaged_is_written_again_with_one_line(name, content, tmp_path, writes, capsys):
    cache.arrays(str(tmp_path), {}, writes)
    (folder,) = tmp_path.iterdir()
    (folder / name).write_bytes(content)
    arrays, facts = cache.arrays(str(tmp_path), {}, writes)
    assert (arrays["ids"].tolist(), facts, writes.times) == ([1, 2, 3], {"tokens": 3}, 2)
    assert capsys.readouterr().err.count("is prepared again: ") == 1
    assert list(tmp_path.iterdir()) == [folder]


def test_what_could_not_be_written_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "ids.bin").write_bytes(b"1234")
        raise OSError("disk full")

    with pytest.raises(OSError):
        cache.arrays(str(tmp_path), {}, fail)
    assert not list(tmp_path.iterdir())


def test_without_a_folder_nothing_stays_and_the_arrays_can_be_read(tmp_path, writes, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    arrays, _ = cache.arrays(None, {}, writes)
    assert not list(tmp_path.iterdir())
    assert arrays["ids"].sum() == 6


def test_a_hash_of_texts_sees_their_borders():
    assert cache.content(["ab", "c"]) == cache.content(iter(["ab", "c"]))
    assert (
        len({cache.content(texts) for texts in (["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""])})
        == 4
    )


def test_what_another_run_has_prepared_meanwhile_is_used(tmp_path, writes):
    """Its process maps those files."""

    def write_second(folder):
        cache.arrays(str(tmp_path), {}, writes)
        return writes(folder)

    arrays, _ = cache.arrays(str(tmp_path), {}, write_second)
    (folder,) = tmp_path.iterdir()
    assert (arrays["ids"].tolist(), writes.times) == ([1, 2, 3], 2)


def test_a_folder_that_cannot_be_is_refused(tmp_path, writes):
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below"):
        with pytest.raises(Refusal, match="no folder can be there"):
            cache.arrays(str(tmp_path / name), {}, writes)
