"""Scores generated texts: BLEU, chrF and TER by sacreBLEU, ROUGE by rouge_score.

The scores are right for Chinese and other scripts, too.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy
from sacrebleu.metrics import BLEU, CHRF, TER

from recipes.common.data.labels import MISSING
from recipes.common.data.splits import Splits
from recipes.common.data.writing_systems import UNSPACED
from recipes.common.metrics import language_modeling
from recipes.common.metrics.classification import arrays_of, bootstrap
from recipes.common.runtime import upstream
from recipes.common.runtime.messages import note

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import EvalPrediction, PreTrainedTokenizerBase

DRAWS = 1000  # of the bootstrap
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
LATIN = re.compile(r"[a-z\u00aa-\u024f\u1e00-\u1eff]", re.IGNORECASE)
LETTER = re.compile(r"[^\W\d_]")
# BLEU's tokeniser -> the languages, by the first part of their code or name.
BLEU_TOKENISERS = {
    "zh": ("zh", "zho", "cmn", "yue", "wuu", "lzh", "chinese", "cantonese"),
    "ja-mecab": ("ja", "jpn", "japanese"),
    "ko-mecab": ("ko", "kor", "korean"),
    "char": ("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod", "thai"),
}
OTHER_LANGUAGES = "13a"
NEEDED = {"ja-mecab": "MeCab", "ko-mecab": "mecab_ko"}  # the package that a tokeniser imports
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")


@dataclass(frozen=True)
class Decoder:
    """Decodes ids [rows, length], padded with -100, to texts without special tokens."""

    tokenizer: "PreTrainedTokenizerBase"

    def __call__(self, ids: numpy.ndarray) -> list[str]:
        ids = numpy.where(numpy.asarray(ids) < 0, self.tokenizer.pad_token_id, ids)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def lengths(self, ids: numpy.ndarray) -> numpy.ndarray:
        """Counts the tokens of each row without padding; Hugging Face's gen_len is their mean."""
        ids = numpy.asarray(ids)
        return ((ids >= 0) & (ids != self.tokenizer.pad_token_id)).sum(axis=1)


def for_translation(
    splits: Splits, language: str, decode: Decoder
) -> Callable[["EvalPrediction"], dict[str, float]]:
    """Returns a compute_metrics for Trainer: sacreBLEU's scores of the generated texts.

    The baseline's scores are those of the copied sources. Rows without a reference are left out.
    `language` is the target's code: it chooses BLEU's tokeniser.
    """
    (source,), target = splits.texts, splits.target
    tokeniser = bleu_tokeniser(language)

    def compute(hypotheses: list[str], rows: "Dataset") -> dict[str, float]:
        found = translation_scores(hypotheses, rows[target], tokeniser)
        copied = translation_scores(rows[source], rows[target], tokeniser, interval=False)
        for name in ("bleu", "chrf", "ter"):
            found[f"baseline_{name}"] = copied[name]
        return found

    return _for_generated(target, decode, compute)


def for_summaries(
    splits: Splits, decode: Decoder
) -> Callable[["EvalPrediction"], dict[str, float]]:
    """Returns a compute_metrics for Trainer: ROUGE F1 in percent with intervals.

    The baseline is the better one of the first sentence and the first three sentences.
    """
    (source,), target = splits.texts, splits.target

    def compute(hypotheses: list[str], rows: "Dataset") -> dict[str, float]:
        found = rouge_scores(hypotheses, rows[target])
        for count in (1, 3):
            leads = [lead(text, count) for text in rows[source]]
            scores = rouge_scores(leads, rows[target], interval=False)
            for name in ROUGE:
                found[f"lead{count}_{name}"] = scores[name]
        for name in ROUGE:
            found[f"baseline_{name}"] = max(found[f"lead1_{name}"], found[f"lead3_{name}"])
        return found

    return _for_generated(target, decode, compute)


def _for_generated(
    target: str, decode: Decoder, compute: Callable[[list[str], "Dataset"], dict[str, float]]
) -> Callable[["EvalPrediction"], dict[str, float]]:
    def compute_metrics(prediction: "EvalPrediction") -> dict[str, float]:
        totals, *others = arrays_of(prediction.predictions)
        if not others:  # nothing was generated
            return language_modeling.scores(numpy.asarray(totals, dtype=numpy.float64))
        (generated,) = others
        rows: Dataset = prediction.inputs  # train.evaluation gives the data set itself
        hypotheses = decode(generated)
        known = [position for position, text in enumerate(rows[target]) if text]
        if not known:
            return {}
        found = compute([hypotheses[position] for position in known], rows.select(known))
        found["gen_len"] = float(decode.lengths(generated).mean())
        (labels,) = arrays_of(prediction.label_ids)
        found["ref_len"] = float((labels[known] != MISSING).sum(axis=1).mean())
        tokens = language_modeling.scores(numpy.asarray(totals, dtype=numpy.float64)[known])
        for name in ("loss", "cross_entropy", "perplexity"):
            found[name] = tokens[name]
        return found

    return compute_metrics


def bleu_tokeniser(language: str) -> str:
    """Returns the name of sacreBLEU's tokeniser for a language.

    It is char for languages that write no spaces, and for Japanese and Korean where the package of
    their tokeniser is not installed.
    """
    code = re.split("[-_ ]", language.lower())[0]
    tokeniser = OTHER_LANGUAGES
    for name, codes in BLEU_TOKENISERS.items():
        if code in codes:
            tokeniser = name
    if tokeniser in NEEDED and not find_spec(NEEDED[tokeniser]):
        note(f"BLEU compares characters: for words install sacrebleu[{code[:2]}]")
        return "char"
    return tokeniser


def translation_scores(
    hypotheses: Sequence[str], references: Sequence[str], tokeniser: str, interval: bool = True
) -> dict[str, float]:
    """Returns bleu, chrf and ter in percent, and the 95 % bootstrap interval of BLEU."""
    bleu = BLEU(tokenize=tokeniser)
    streams = [list(references)]  # sacreBLEU's word: one reference of every row
    # Without `normalized` a Chinese sentence is one word, whatever `asian_support` says.
    asian = tokeniser != OTHER_LANGUAGES
    ter = TER(normalized=asian, asian_support=asian)
    found = {
        "bleu": float(bleu.corpus_score(hypotheses, streams).score),
        "chrf": float(CHRF().corpus_score(hypotheses, streams).score),
        "ter": float(ter.corpus_score(hypotheses, streams).score),
    }
    if interval:
        found["bleu_low"], found["bleu_high"] = _bleu_interval(bleu, hypotheses, streams)
    return found


def signature(language: str) -> str:
    """Returns sacreBLEU's signature of the BLEU that is reported for a target language."""
    bleu = BLEU(tokenize=bleu_tokeniser(language))
    bleu.corpus_score(["a"], [["a"]])
    return str(bleu.get_signature())


def _bleu_interval(
    bleu: BLEU, hypotheses: Sequence[str], streams: list[list[str]]
) -> tuple[float, float]:
    """Returns the interval of BLEU, which is a function of the rows' summed counts (Koehn 2004)."""
    counts = upstream.counts_of_rows(bleu, hypotheses, streams)
    rows = numpy.asarray(counts, dtype=numpy.float64)

    score = upstream.score_of_counts(bleu)

    def statistic(sums: numpy.ndarray) -> numpy.ndarray:
        return numpy.asarray([score(list(map(int, row))) for row in sums])

    return bootstrap(rows, statistic, DRAWS)


class UnspacedTokenizer:
    """Tokenises for rouge_score, which by itself drops every script without spaces.

    Each character of such a script counts as a word.
    """

    def tokenize(self, text: str) -> list[str]:
        """Returns words and characters in order."""
        return units(text)


def units(text: str) -> list[str]:
    """Returns lower-case words without punctuation.

    Each character of Chinese, Japanese and Thai is a word of its own.
    """
    lowered = unicodedata.normalize("NFKC", text).lower()
    spaced = UNSPACED.sub(r" \g<0> ", lowered)
    return "".join(map(_letter_or_space, spaced)).split()


@lru_cache(maxsize=2**16)
def _letter_or_space(letter: str) -> str:
    """Keeps letters, digits, and the marks that Hindi and Tamil write as vowels."""
    is_mark = unicodedata.category(letter).startswith("M")
    if letter.isalnum() or letter == "_" or is_mark:
        return letter
    return " "


class StemmingTokenizer:
    """Tokenises as rouge_score does by default, but stems each word only once.

    Stemming takes three quarters of rouge_score's time.
    """

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self.stem = lru_cache(maxsize=2**16)(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        """Returns lower-case words of letters and digits.

        Words of more than three characters are replaced by their stems.
        """
        from rouge_score.tokenize import tokenize

        return tokenize(text, self)


def is_mostly_latin(text: str) -> bool:
    """Whether at least half of the words of a text begin in Latin script.

    A Greek letter in a formula, or a Chinese name, does not make an English text Greek or Chinese.
    Each character of a script without spaces is a word.
    """
    words = list(filter(LETTER.search, units(text)))
    latin = list(filter(LATIN.match, words))
    return 2 * len(latin) >= len(words)


def rouge_scores(
    hypotheses: Sequence[str], references: Sequence[str], interval: bool = True
) -> dict[str, float]:
    """Returns rouge1, rouge2, rougeL and rougeLsum: mean F1 in percent, with 95 % intervals.

    A reference in Latin script is compared by rouge_score's stemmed words, as in Hugging Face's
    script. rouge_score drops all letters of other scripts. They are compared by `units`.
    """
    from rouge_score.rouge_scorer import RougeScorer

    latin = RougeScorer(list(ROUGE), tokenizer=StemmingTokenizer())
    other = RougeScorer(list(ROUGE), tokenizer=UnspacedTokenizer())
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        scorer = latin if is_mostly_latin(reference) else other
        rows.append(scorer.score(_by_line(reference), _by_line(hypothesis)))
    found = {}
    for name in ROUGE:
        values = 100 * numpy.asarray([[row[name].fmeasure] for row in rows])
        found[name] = float(values.mean())
        if interval:
            low, high = bootstrap(values, lambda sums: sums[:, 0] / len(rows))
            found[f"{name}_low"], found[f"{name}_high"] = low, high
    return found


def _by_line(text: str) -> str:
    """Returns the text with each sentence on a line of its own, as rougeLsum needs it."""
    return "\n".join(sentences(text))


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text.

    It is split after . ! ? and a space, after 。！？, and at line breaks.
    """
    found: list[str] = []
    for line in text.splitlines():
        parts = map(str.strip, SENTENCE_END.split(line))
        found += filter(None, parts)
    return found


def lead(text: str, count: int) -> str:
    """Returns the first sentences of a text."""
    first = sentences(text)[:count]
    if first and UNSPACED.search(first[0]):
        return "".join(first)
    return " ".join(first)
