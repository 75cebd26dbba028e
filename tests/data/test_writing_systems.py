"""Which characters belong to scripts without spaces."""

import pytest

from recipes.common.data.writing_systems import UNSPACED


@pytest.mark.parametrize("character", "中㐀豈あアก𠮷")
def test_chinese_japanese_and_thai_write_no_spaces(character):
    assert UNSPACED.fullmatch(character)


@pytest.mark.parametrize("character", "aé1ж한अع. 。")
def test_other_scripts_and_marks_are_no_words_by_themselves(character):
    assert not UNSPACED.search(character)
