"""A text of one line, or of a few long ones: its last part is held out, and nothing is lost or seen twice."""

import pytest
from conftest import load_recipe, merged
from test_bad_text_inputs import STEP, TRAIN

from recipes.common.config.flags import Arguments
from recipes.common.data import sources
from recipes.common.data.columns import Columns
from recipes.common.data.splits import load_splits
from recipes.common.runtime.errors import Refusal

WORDS = "the soup number {} was good and warm "


class Needs:
    do_train, do_eval, do_predict, eval_strategy, seed = True, True, False, "no", 1


def load(text, folder, line_breaks, percentage=10):
    (folder / "x.txt").write_text(text, encoding="utf-8")
    arguments = Arguments(
        train_file=[str(folder / "x.txt")], validation_split_percentage=percentage
    )
    columns = Columns("--text_column_name", [None], [("text",)])
    return load_splits(
        arguments, Needs(), columns, reading=sources.Reading(line_breaks=line_breaks)
    )


LINE = "".join(WORDS.format(n) for n in range(1000)).strip()
TEXTS = {
    "one line": LINE,
    "one line that ends": LINE + "\n",
    "no spaces": "味道很好服务员态度也不错" * 500,
    "two long lines": f"{LINE}\n{LINE}",
    "a long line and a short one": f"{LINE}\nend\n",
    "a title and a long line": f"Title\n{LINE}\n",
}


@pytest.mark.parametrize("percentage", [1, 10, 50])
@pytest.mark.parametrize("case", TEXTS)
def test_the_last_part_of_a_text_of_few_lines_is_held_out(case, percentage, tmp_path):
    text = TEXTS[case]
    splits = load(text, tmp_path, True, percentage)
    parts = ["".join(split["text"]) for split in (splits.train, splits.validation)]
    assert "".join(parts) == text.removesuffix("\n")
    assert len(parts[1]) == pytest.approx(len(text) * percentage / 100, abs=50)
    assert " " not in text or parts[0].endswith((" ", "\n"))
    for account in splits.accounting.values():
        assert account["read"] == account["used"] + sum(account["skipped"].values())


@pytest.mark.parametrize("text", [LINE, LINE + "\n"])
def test_one_document_is_cut_where_every_line_is_one(text, tmp_path, capsys):
    splits = load(text, tmp_path, False)
    assert splits.train["text"][0] + splits.validation["text"][0] == LINE
    assert (len(splits.train), len(splits.validation)) == (1, 1)
    assert "the last 10 % of the text" in capsys.readouterr().err


def test_a_text_of_many_lines_is_cut_between_them(tmp_path, capsys):
    splits = load("".join(WORDS.format(n) + "\n" for n in range(100)), tmp_path, True)
    assert (len(splits.train), len(splits.validation)) == (90, 10)
    assert "by characters" not in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["mlm_pretrain", "clm_pretrain"])
def test_a_corpus_of_one_line_is_trained_on(recipe, in_tmp_path):
    (in_tmp_path / "text.txt").write_text(LINE[:4000])
    scores = load_recipe(recipe).main(
        merged(*TRAIN[recipe], *STEP, "--output_dir", "out", "--do_train", "--do_eval")
    )
    assert scores["eval_perplexity"] > 1


def test_a_corpus_of_one_character_leaves_nothing_to_train_on(in_tmp_path):
    (in_tmp_path / "text.txt").write_text("x\n", encoding="utf-8")
    with pytest.raises(Refusal, match="of 1 characters leaves nothing to train on"):
        load_recipe("clm_pretrain").main(merged(*TRAIN["clm_pretrain"], *STEP))
