"""Lets scripts that fetch their metric from the Hub, or data of NLTK, run without a network: on
PYTHONPATH.

Metrics have the same names and numbers (scikit-learn, sacreBLEU and rouge_score compute them in
`evaluate`, too).
"""

import importlib.abc
import importlib.util
import sys


class Accuracy:
    """accuracy of predictions and references."""

    def compute(self, predictions, references):
        from sklearn.metrics import accuracy_score

        return {"accuracy": float(accuracy_score(references, predictions))}


class SacreBleu:
    """score: sacreBLEU's BLEU of texts and lists of references."""

    def compute(self, predictions, references):
        import sacrebleu

        return {
            "score": sacrebleu.corpus_bleu(predictions, list(zip(*references, strict=True))).score
        }


class Rouge:
    """rouge1, rouge2, rougeL and rougeLsum as shares of one."""

    def compute(self, predictions, references, use_stemmer=False):
        from rouge_score import rouge_scorer

        names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
        scorer = rouge_scorer.RougeScorer(names, use_stemmer=use_stemmer)
        scores = [
            scorer.score(truth, text) for truth, text in zip(references, predictions, strict=True)
        ]
        return {name: sum(score[name].fmeasure for score in scores) / len(scores) for name in names}


KNOWN = {"accuracy": Accuracy, "sacrebleu": SacreBleu, "rouge": Rouge}


def without_hub(evaluate):
    """Metrics by their names."""
    evaluate.load = lambda metric, *arguments, **options: KNOWN[metric]()


def without_punkt(nltk):
    """Sentences end where NLTK's rules say so, without the list of abbreviations that it would
    download."""
    find = nltk.data.find
    nltk.data.find = lambda name, *rest: name if name == "tokenizers/punkt" else find(name, *rest)
    nltk.sent_tokenize = nltk.tokenize.punkt.PunktSentenceTokenizer().tokenize


CHANGED = {"evaluate": without_hub, "nltk": without_punkt}


class Loader(importlib.abc.MetaPathFinder):
    """Changes these modules as soon as they are imported."""

    def find_spec(self, name, path, target=None):
        if name not in CHANGED:
            return None
        change = CHANGED.pop(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Loader())
