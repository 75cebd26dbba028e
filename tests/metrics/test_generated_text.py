"""Scores of generated texts: those of sacreBLEU and rouge_score themselves, Chinese included."""

from types import SimpleNamespace

import datasets
import numpy
import pytest
import sacrebleu
from rouge_score import rouge_scorer
from transformers import EvalPrediction

from recipes.common.metrics import generated_text
from recipes.common.model.tokenizer_training import train_tokenizer

GERMAN = ["Das Haus ist klein.", "Ein Hund läuft über die Wiese.", "Wir waren im Kino."]
ANSWERS = ["Das Haus ist klein.", "Ein Hund rennt über eine Wiese.", "Wir gehen ins Kino."]
CHINESE = ["这家餐厅很好。", "我们明天去看电影。"]


def test_bleu_chrf_and_ter_are_sacrebleus():
    found = generated_text.translation_scores(ANSWERS, GERMAN, "13a")
    assert found["bleu"] == sacrebleu.corpus_bleu(ANSWERS, [GERMAN]).score
    assert found["chrf"] == sacrebleu.corpus_chrf(ANSWERS, [GERMAN]).score
    assert found["ter"] == sacrebleu.corpus_ter(ANSWERS, [GERMAN]).score
    assert found["bleu_low"] <= found["bleu"] <= found["bleu_high"]


@pytest.mark.parametrize(
    ("language", "tokeniser"),
    [
        *(("de", "13a"), ("en_XX", "13a"), ("th", "char")),
        *((chinese, "zh") for chinese in ("zh", "zh_CN", "zho_Hans", "yue_Hant", "cmn", "chinese")),
    ],
)
def test_the_tokeniser_follows_the_language(language, tokeniser):
    assert generated_text.bleu_tokeniser(language) == tokeniser


def test_japanese_compares_characters_where_no_dictionary_is_installed():
    assert generated_text.bleu_tokeniser("ja") in ("char", "ja-mecab")


def test_the_signature_names_tokeniser_and_version():
    assert f"tok:zh|smooth:exp|version:{sacrebleu.__version__}" in generated_text.signature("zh")


def test_rouge_is_rouge_scores_for_english():
    references, answers = (
        ["the cat sat on the mat. it slept."],
        ["a cat sat there. it was sleeping."],
    )
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    expected = scorer.score(references[0], answers[0])
    found = generated_text.rouge_scores(answers, references)
    for name in ("rouge1", "rouge2", "rougeL"):
        assert found[name] == pytest.approx(100 * expected[name].fmeasure)


def test_chinese_rouge_counts_characters():
    assert generated_text.rouge_scores(CHINESE, CHINESE)["rougeL"] == pytest.approx(100)
    # 这家餐厅很好 and 这家酒店很好 share 4 of 6 characters
    assert generated_text.rouge_scores(["这家酒店很好。"], CHINESE[:1])["rouge1"] == pytest.approx(
        100 * 4 / 6
    )


def test_chinese_ter_counts_characters():
    # 这家酒店很好。 becomes 这家餐厅很好。 by 2 edits of 7 characters
    found = generated_text.translation_scores(["这家酒店很好。"], CHINESE[:1], "zh")
    assert found["ter"] == pytest.approx(100 * 2 / 7)


@pytest.mark.parametrize(
    "text", ["Дом очень маленький", "البيت صغير جدا", "집이 아주 작다", "घर बहुत छोटा है"]
)
def test_rouge_counts_the_words_of_any_script(text):
    """rouge_score drops all their letters: a perfect answer had 0."""
    assert generated_text.rouge_scores([text], [text])["rougeL"] == pytest.approx(100)


def test_a_greek_letter_in_an_english_text_changes_no_score():
    plain, greek = (
        generated_text.rouge_scores(["the cat sat"], [text])
        for text in ("the cats sat", "the α cats sat")
    )
    assert greek["rouge1"] == plain["rouge1"] == pytest.approx(100)


def test_a_reference_in_another_script_changes_the_score_of_no_other_row():
    rows = [
        ("the cat sat", "the cats sat"),
        ("酒店很好", "酒店不好"),
        ("使用 Transformer 模型", "Transformer 模型"),
    ]
    one_by_one = [
        generated_text.rouge_scores([answer], [reference])["rouge1"] for answer, reference in rows
    ]
    assert one_by_one == pytest.approx([100, 75, 100 * 2 * 3 / (5 + 3)])
    assert generated_text.rouge_scores(*zip(*rows, strict=True))["rouge1"] == pytest.approx(
        sum(one_by_one) / 3
    )


def test_units_are_words_and_single_characters():
    assert generated_text.units("Das iPhone 15 很好!") == ["das", "iphone", "15", "很", "好"]
    assert generated_text.units("हिन्दी, தமிழ்!") == ["हिन्दी", "தமிழ்"]


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("One. Two! Three? Four.", 1, "One."),
        ("One. Two! Three? Four.", 3, "One. Two! Three?"),
        ("一。二！三？", 2, "一。二！"),
        ("no end", 3, "no end"),
        ("", 1, ""),
    ],
)
def test_the_lead_of_a_text(text, count, expected):
    assert generated_text.lead(text, count) == expected


class Plain:
    """A decoder of answers that are texts already: a word is a token."""

    def __call__(self, texts):
        return list(texts)

    def lengths(self, texts):
        return numpy.array([len(text.split()) for text in texts])


PLAIN = Plain()
LABELS = numpy.array([[5, 6, 7, 8], [-100] * 4, [5, 6, -100, -100]])
ROWS = datasets.Dataset.from_dict(
    {"en": ["a", "b", "c"], "de": ["Das Haus ist klein.", "", "Wir waren im Kino."]}
)


def answers(texts):
    return (numpy.array([[1.0, 1, 2], [0.0, 0, 0], [3.0, 1, 2]]), texts)


def test_rows_without_a_reference_count_in_no_score():
    compute = generated_text.for_translation(
        SimpleNamespace(texts=("en",), target="de"), "de", PLAIN
    )
    texts = ["Das Haus ist klein.", "anything", "Wir waren im Kino."]
    found = compute(EvalPrediction(answers(texts), LABELS, inputs=ROWS))
    assert found["bleu"] == pytest.approx(100)
    assert found["loss"] == 1.0
    assert found["gen_len"] == pytest.approx((4 + 1 + 4) / 3)
    assert found["ref_len"] == 3
    assert found["baseline_bleu"] == 0


def test_nothing_is_scored_where_no_row_has_a_reference():
    rows = datasets.Dataset.from_dict({"en": ["a"], "de": [""]})
    compute = generated_text.for_translation(
        SimpleNamespace(texts=("en",), target="de"), "de", PLAIN
    )
    assert compute(EvalPrediction((numpy.zeros((1, 3)), ["x"]), None, inputs=rows)) == {}


def test_the_better_lead_is_the_baseline():
    rows = datasets.Dataset.from_dict(
        {"document": ["One two. Three four. Five six. Seven."], "summary": ["One two."]}
    )
    compute = generated_text.for_summaries(
        SimpleNamespace(texts=("document",), target="summary"), PLAIN
    )
    found = compute(
        EvalPrediction((numpy.array([[1.0, 1, 2]]), ["One two."]), LABELS[:1], inputs=rows)
    )
    assert found["lead1_rougeL"] == pytest.approx(100)
    assert found["lead3_rougeL"] == pytest.approx(50)
    assert found["baseline_rougeL"] == found["lead1_rougeL"]


def test_decoded_answers_have_no_padding_and_no_special_tokens():
    tokenizer = train_tokenizer(GERMAN, "bpe", 300, "t5")
    ids = tokenizer(GERMAN[0])["input_ids"]
    rows = numpy.array([[0, *ids, -100, -100]])
    assert generated_text.Decoder(tokenizer)(rows) == GERMAN[:1]
    assert generated_text.Decoder(tokenizer).lengths(rows).tolist() == [len(ids)]
