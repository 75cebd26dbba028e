"""A flag's facts stand beside it: a recipe's own flag brings its range, and what it needs, without a change elsewhere."""

from dataclasses import dataclass

import pytest
from conftest import load_recipe

from recipes.common.config import facts, flags, parsing
from recipes.common.config.facts import Facts, setting
from recipes.common.runtime.errors import Refusal


@dataclass
class Own(flags.Arguments):
    """What a recipe of one's own adds."""

    span_length: int = setting(30, "Longest span in tokens.", Facts(range=(1, 512), of_model=True))
    span_words: str | None = setting(None, "Words of spans.", Facts(needs=("span_file",)))
    span_mark: str = setting("|", "What stands between spans.", Facts(may_be_empty=True))
    span_file: str | None = setting(None, "A file of spans.", Facts(is_path=True))
    sample_length: int = setting(30, "Length in the sample.", Facts(of_sample=True))


@pytest.fixture
def parsed(in_tmp_path):
    """A function that resolves a command line of that recipe; its config.yaml sets two of its flags."""
    (in_tmp_path / "config.yaml").write_text(
        "span_length: 5\nsample_length: 7\ntrain_file: sample.csv\noutput_dir: out\n"
    )
    return lambda *words: parsing.parse(Own, str(in_tmp_path / "run.py"), [*words])[0]


def test_a_flag_of_one_s_own_has_a_range(parsed):
    assert parsed("--span_length", "512").span_length == 512
    with pytest.raises(Refusal, match="--span_length is 513") as caught:
        parsed("--span_length", "513")
    assert caught.value.fix == "give a number from 1 to 512"


def test_a_flag_of_one_s_own_may_be_empty_and_may_be_a_path(parsed, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    arguments = parsed("--span_mark=", "--span_file=~/spans.txt")
    assert (arguments.span_mark, arguments.span_file) == ("", "/home/me/spans.txt")
    with pytest.raises(Refusal, match="--span_file is empty"):
        parsed("--span_file=")


def test_a_recipe_s_setting_of_one_s_own_gives_way_to_another_model_or_other_data(parsed):
    arguments = parsed()
    assert (arguments.span_length, arguments.sample_length) == (5, 7)
    arguments = parsed("--model_name_or_path", "bert-base-uncased")
    assert (arguments.span_length, arguments.sample_length) == (30, 7)
    arguments = parsed("--train_file", "mine.csv")
    assert (arguments.span_length, arguments.sample_length) == (5, 30)


def test_a_flag_that_needs_another_one_is_refused_alone(parsed):
    assert parsed("--span_words", "a", "--span_file", "spans.txt").span_words == "a"
    with pytest.raises(Refusal, match="--span_words has no effect without --span_file"):
        parsed("--span_words", "a")


def test_the_facts_of_a_flag_that_no_dataclass_defines_are_none():
    assert facts.of(Own)["unknown"] == Facts()
    assert facts.of(load_recipe("sentiment").Arguments)["max_seq_length"] == facts.TOKENS
