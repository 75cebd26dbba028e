"""How good generated texts are: BLEU, chrF and TER by sacreBLEU, ROUGE by rouge_score, right for Chinese too."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy
from sacrebleu.metrics import BLEU, CHRF, TER

from recipes.common.data.labels import MISSING
from recipes.common.metrics import language_modeling
from recipes.common.metrics.classification import bootstrap
from recipes.common.model.languages import UNSPACED
from recipes.common.runtime.messages import note

DRAWS = 1000  # of the bootstrap
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
LATIN = re.compile(r"[a-z\u00aa-\u024f\u1e00-\u1eff]", re.IGNORECASE)
LETTER = re.compile(r"[^\W\d_]")
# By the first part of a language's code or name; other languages have 13a.
BLEU_TOKENISERS = dict.fromkeys(
    ("zh", "zho", "cmn", "yue", "wuu", "lzh", "chinese", "cantonese"), "zh"
)
BLEU_TOKENISERS |= dict.fromkeys(("ja", "jpn", "japanese"), "ja-mecab")
BLEU_TOKENISERS |= dict.fromkeys(("ko", "kor", "korean"), "ko-mecab")
BLEU_TOKENISERS |= dict.fromkeys(
    ("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod", "thai"), "char"
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")


@dataclass(frozen=True)
class Decoder:
    """Ids [rows, length], padded with -100 -> texts without special tokens."""

    tokenizer: Any

    def __call__(self, ids: Any) -> list[str]:
        ids = numpy.where(numpy.asarray(ids) < 0, self.tokenizer.pad_token_id, ids)
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def lengths(self, ids: Any) -> numpy.ndarray:
        """Tokens of every row without padding: Hugging Face's gen_len is their mean."""
        ids = numpy.asarray(ids)
        return ((ids >= 0) & (ids != self.tokenizer.pad_token_id)).sum(axis=1)


def for_translation(
    source: str, target: str, language: str, decode: Decoder
) -> Callable[[Any], dict[str, float]]:
    """A compute_metrics for Trainer: sacreBLEU's scores of the generated texts and of the copied sources.

    Rows without a reference are left out. `language` is the target's code: it chooses BLEU's tokeniser.
    """
    tokeniser = bleu_tokeniser(language)

    def compute(hypotheses: list[str], rows: Any) -> dict[str, float]:
        found = translation_scores(hypotheses, rows[target], tokeniser)
        copied = translation_scores(rows[source], rows[target], tokeniser, interval=False)
        return found | {f"baseline_{name}": copied[name] for name in ("bleu", "chrf", "ter")}

    return _for_generated(target, decode, compute)


def for_summaries(source: str, target: str, decode: Decoder) -> Callable[[Any], dict[str, float]]:
    """A compute_metrics for Trainer: ROUGE F1 in percent with intervals, and the better of the two lead baselines."""

    def compute(hypotheses: list[str], rows: Any) -> dict[str, float]:
        found = rouge_scores(hypotheses, rows[target])
        leads = {count: [lead(text, count) for text in rows[source]] for count in (1, 3)}
        baselines = {
            count: rouge_scores(texts, rows[target], interval=False)
            for count, texts in leads.items()
        }
        found |= {
            f"lead{count}_{name}": value
            for count, scores in baselines.items()
            for name, value in scores.items()
        }
        return found | {
            f"baseline_{name}": max(scores[name] for scores in baselines.values()) for name in ROUGE
        }

    return _for_generated(target, decode, compute)


def _for_generated(
    target: str, decode: Decoder, compute: Callable
) -> Callable[[Any], dict[str, float]]:
    def compute_metrics(prediction: Any) -> dict[str, float]:
        predictions, rows = prediction.predictions, prediction.inputs
        if not isinstance(predictions, tuple):  # nothing was generated
            return language_modeling.scores(numpy.asarray(predictions, dtype=numpy.float64))
        totals, generated = predictions
        hypotheses = decode(generated)
        known = [position for position, text in enumerate(rows[target]) if text]
        if not known:
            return {}
        answered = rows.select(known)
        found = compute([hypotheses[position] for position in known], answered)
        tokens = language_modeling.scores(numpy.asarray(totals, dtype=numpy.float64)[known])
        lengths = {"gen_len": decode.lengths(generated).mean()}
        lengths["ref_len"] = (prediction.label_ids[known] != MISSING).sum(axis=1).mean()
        kept = {name: tokens[name] for name in ("loss", "cross_entropy", "perplexity")}
        return found | {name: float(value) for name, value in lengths.items()} | kept

    return compute_metrics


def bleu_tokeniser(language: str) -> str:
    """sacreBLEU's tokeniser for a language: zh, ja-mecab, ko-mecab (char where they are not installed), char where no
    spaces are written, else 13a."""
    code = re.split("[-_ ]", language.lower())[0]
    tokeniser = BLEU_TOKENISERS.get(code, "13a")
    needed = {"ja-mecab": "MeCab", "ko-mecab": "mecab_ko"}.get(tokeniser)
    if needed and not find_spec(needed):
        note(f"BLEU compares characters: for words install sacrebleu[{code[:2]}]")
        return "char"
    return tokeniser


def translation_scores(
    hypotheses: Sequence[str], references: Sequence[str], tokeniser: str, interval: bool = True
) -> dict[str, Any]:
    """bleu, chrf, ter (0 to 100), BLEU's signature, and the 95 % bootstrap interval of BLEU."""
    bleu, references, asian = BLEU(tokenize=tokeniser), [list(references)], tokeniser != "13a"
    score = bleu.corpus_score(hypotheses, references)
    found = {
        "bleu": score.score,
        "chrf": CHRF().corpus_score(hypotheses, references).score,
        # Without `normalized` a Chinese sentence is one word, whatever `asian_support` says.
        "ter": TER(normalized=asian, asian_support=asian)
        .corpus_score(hypotheses, references)
        .score,
    }
    if interval:
        found["bleu_low"], found["bleu_high"] = _bleu_interval(bleu, hypotheses, references)
    return {name: float(value) for name, value in found.items()}


def signature(language: str) -> str:
    """sacreBLEU's signature of the BLEU that is reported for a target language."""
    bleu = BLEU(tokenize=bleu_tokeniser(language))
    bleu.corpus_score(["a"], [["a"]])
    return str(bleu.get_signature())


def _bleu_interval(
    bleu: BLEU, hypotheses: Sequence[str], references: list[list[str]]
) -> tuple[float, float]:
    """Rows drawn with replacement; BLEU is a function of the rows' summed counts (Koehn 2004)."""
    rows = numpy.asarray(
        bleu._extract_corpus_statistics(hypotheses, references), dtype=numpy.float64
    )

    def statistic(sums: numpy.ndarray) -> numpy.ndarray:
        return numpy.asarray(
            [bleu._compute_score_from_stats([int(value) for value in row]).score for row in sums]
        )

    return bootstrap(rows, statistic, DRAWS)


class UnspacedTokenizer:
    """rouge_score's words, but every character of a script without spaces counts as one: rouge_score drops them all."""

    def tokenize(self, text: str) -> list[str]:
        """Words and characters in order."""
        return units(text)


def units(text: str) -> list[str]:
    """Lower-case words; each character of Chinese, Japanese and Thai alone; no punctuation."""
    spaced = UNSPACED.sub(
        lambda match: f" {match[0]} ", unicodedata.normalize("NFKC", text).lower()
    )
    return "".join(letter if _is_of_a_word(letter) else " " for letter in spaced).split()


@lru_cache(maxsize=2**16)
def _is_of_a_word(letter: str) -> bool:
    """Letters, digits, and the marks that Hindi and Tamil write as vowels."""
    return letter.isalnum() or letter == "_" or unicodedata.category(letter).startswith("M")


class StemmingTokenizer:
    """rouge_score's default words, each stemmed once: that takes three quarters of its time."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self.stem = lru_cache(maxsize=2**16)(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        """Lower-case words of letters and digits, those of more than three characters by their stems."""
        from rouge_score.tokenize import tokenize

        return tokenize(text, self)


def is_mostly_latin(text: str) -> bool:
    """By words, of which an unspaced script's characters are one each: a Greek letter in a formula, or a Chinese name,
    makes no English text Greek or Chinese."""
    words = [word for word in units(text) if LETTER.search(word)]
    return 2 * sum(bool(LATIN.match(word)) for word in words) >= len(words)


def rouge_scores(
    hypotheses: Sequence[str], references: Sequence[str], interval: bool = True
) -> dict[str, float]:
    """rouge1, rouge2, rougeL and rougeLsum: mean F1 in percent, and their 95 % bootstrap intervals.

    Of a reference in Latin script by rouge_score's stemmed words, as in Hugging Face's script; of another one, all of
    whose letters rouge_score drops, by `units`.
    """
    from rouge_score import rouge_scorer

    stems, whole = (
        rouge_scorer.RougeScorer(list(ROUGE), tokenizer=one)
        for one in (StemmingTokenizer(), UnspacedTokenizer())
    )
    rows = [
        (stems if is_mostly_latin(reference) else whole).score(
            "\n".join(sentences(reference)), "\n".join(sentences(hypothesis))
        )
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    ]
    found = {}
    for name in ROUGE:
        values = 100 * numpy.asarray([[row[name].fmeasure] for row in rows])
        found[name] = float(values.mean())
        if interval:
            found[f"{name}_low"], found[f"{name}_high"] = bootstrap(
                values, lambda sums: sums[:, 0] / len(rows)
            )
    return found


def sentences(text: str) -> list[str]:
    """The sentences of a text: split after . ! ? and a space, after 。！？, and at line breaks."""
    parts = (part.strip() for line in text.splitlines() for part in SENTENCE_END.split(line))
    return [part for part in parts if part]


def lead(text: str, count: int) -> str:
    """The first sentences of a text."""
    found = sentences(text)[:count]
    return ("" if found and UNSPACED.search(found[0]) else " ").join(found)
