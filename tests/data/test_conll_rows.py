"""Sentences of labelled words, as people's files hold them."""

import pytest

from recipes.common.data import readers
from recipes.common.data.readers import Options
from recipes.common.runtime.errors import Refusal

WORDS = Options(words=True)
TWO = [
    (1, {"tokens": ["Ada", "sleeps"], "tags": ["B-PER", "O"]}),
    (4, {"tokens": ["in", "Rome"], "tags": ["O", "B-LOC"]}),
]
CONLL_2003 = "-DOCSTART- -X- -X- O\n\nAda NNP B-NP B-PER\nsleeps VBZ B-VP O\n"
CONLLU = """# sent_id = 1
# text = du pain
1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_
1\tde\tde\tADP\t_\t_\t0\troot\t_\t_
2\tle\tle\tDET\t_\t_\t1\tdet\t_\t_
2.1\tx\t_\t_\t_\t_\t_\t_\t_\t_
3\tpain\tpain\tNOUN\t_\t_\t1\tobj\t_\t_
"""


def read(folder, name, text, options=WORDS):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return list(readers.read(path, options))


@pytest.mark.parametrize("name", ["a.conll", "a.bio", "a.iob2", "a.bmes", "a.txt", "a.tsv"])
@pytest.mark.parametrize("between", [" ", "\t"])
@pytest.mark.parametrize("end", ["\n", "\n\n", "\n \n\n"])
def test_one_word_per_line_and_an_empty_line_after_each_sentence(name, between, end, tmp_path):
    lines = ["Ada B-PER", "sleeps O", "", "in O", "Rome B-LOC"]
    text = "\n".join(line.replace(" ", between) for line in lines) + end
    assert read(tmp_path, name, text) == TWO


def test_the_columns_of_conll_2003_have_its_names(tmp_path):
    assert read(tmp_path, "train.txt", CONLL_2003) == [
        (
            3,
            {
                "tokens": ["Ada", "sleeps"],
                "pos_tags": ["NNP", "VBZ"],
                "chunk_tags": ["B-NP", "B-VP"],
                "ner_tags": ["B-PER", "O"],
            },
        )
    ]


def test_three_columns_are_the_word_another_one_and_the_label(tmp_path):
    ((_, row),) = read(tmp_path, "a.conll", "Ada NNP B-PER\n")
    assert row == {"tokens": ["Ada"], "column_2": ["NNP"], "tags": ["B-PER"]}


def test_universal_dependencies_words_without_comments_and_joined_words(tmp_path):
    ((line, row),) = read(tmp_path, "a.conllu", CONLLU)
    assert (line, row["tokens"], row["upos"]) == (4, ["de", "le", "pain"], ["ADP", "DET", "NOUN"])


def test_a_comment_is_no_word_but_the_word_number_sign_is(tmp_path):
    text = "# id 7\tdomain=en\n# O\n1 O\n"
    ((line, row),) = read(tmp_path, "a.conll", text)
    assert (line, row["tokens"]) == (2, ["#", "1"])


def test_a_word_may_be_a_space_that_only_looks_like_one(tmp_path):
    ((_, row),) = read(tmp_path, "a.conll", "好 O\n\u3000 O\n")
    assert row["tokens"] == ["好", "\u3000"]


def test_a_tsv_file_with_a_header_stays_a_table(tmp_path):
    ((_, row),) = read(tmp_path, "a.tsv", "tokens\ttags\nAda sleeps\tB-PER O\n")
    assert row == {"tokens": "Ada sleeps", "tags": "B-PER O"}


def test_other_recipes_read_a_text_file_as_texts(tmp_path):
    rows = read(tmp_path, "a.txt", "Ada B-PER\n\nin O\n", readers.PLAIN)
    assert [row["text"] for _, row in rows] == ["Ada B-PER", "", "in O"]


def test_a_line_with_another_number_of_columns_is_refused_with_its_place(tmp_path):
    with pytest.raises(Refusal, match="1 columns, but the first one has 2: sleeps") as refused:
        read(tmp_path, "a.conll", "Ada B-PER\nsleeps\n")
    assert refused.value.where.endswith("a.conll:2")


def test_a_file_without_an_empty_line_is_refused(tmp_path):
    with pytest.raises(Refusal, match="no empty line in 10,000 lines"):
        read(tmp_path, "a.conll", "Ada B-PER\n" * 10_001)


@pytest.mark.parametrize("header", ["word\ttag", "Token\tNER_tags", "tokens\tlabels"])
def test_a_header_names_the_columns_and_is_no_word(header, tmp_path):
    text = f"{header}\nAda\tB-PER\nsleeps\tO\n\nin\tO\n"
    first, second = read(tmp_path, "a.tsv", text)
    labels = header.split("\t")[1]
    assert first[1] == {"tokens": ["Ada", "sleeps"], labels: ["B-PER", "O"]}
    assert second[1] == {"tokens": ["in"], labels: ["O"]}


def test_a_table_that_ends_in_empty_lines_stays_a_table(tmp_path):
    ((_, row),) = read(tmp_path, "a.tsv", "tokens\ttags\nAda sleeps\tB-PER O\n\n\n")
    assert row == {"tokens": "Ada sleeps", "tags": "B-PER O"}


def test_a_column_of_numbers_is_left_out_and_the_labels_are_those_that_mark_entities(tmp_path):
    """Universal NER: number, word, label, two columns of others."""
    text = "1\tAda\tB-PER\t-\tann0\n2\tsleeps\tO\t-\tann0\n\n1\tSo\tO\t-\tann0\n"
    (_, row), _ = read(tmp_path, "a.iob2", text)
    assert row == {
        "tokens": ["Ada", "sleeps"],
        "tags": ["B-PER", "O"],
        "column_3": ["-", "-"],
        "column_4": ["ann0", "ann0"],
    }


def test_blanks_at_the_ends_of_lines_mean_nothing(tmp_path):
    assert read(tmp_path, "a.conll", "Ada B-PER \nsleeps O\t\n\nin O\nRome B-LOC\n") == TWO


@pytest.mark.parametrize("text", ["1\tAda\tPROPN\n", "1 Ada PROPN\n"])
def test_universal_dependencies_with_other_columns_are_refused(text, tmp_path):
    with pytest.raises(Refusal, match="3 columns, but .conllu files have 10"):
        read(tmp_path, "a.conllu", text)


def test_a_word_that_looks_like_a_comment_is_one(tmp_path):
    ((_, row),) = read(tmp_path, "a.conll", "#\tB-id\n1\tO\n")
    assert row["tokens"] == ["#", "1"]
