"""Lets scripts that fetch their metric from the Hub run without one: on PYTHONPATH, evaluate.load finds these instead.

Same names, same numbers (scikit-learn, sacreBLEU and rouge_score compute them in `evaluate`, too).
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

        return {"score": sacrebleu.corpus_bleu(predictions, list(zip(*references, strict=True))).score}


class Rouge:
    """rouge1, rouge2, rougeL and rougeLsum as shares of one."""

    def compute(self, predictions, references, use_stemmer=False):
        from rouge_score import rouge_scorer

        names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
        scorer = rouge_scorer.RougeScorer(names, use_stemmer=use_stemmer)
        scores = [scorer.score(truth, text) for truth, text in zip(references, predictions, strict=True)]
        return {name: sum(score[name].fmeasure for score in scores) / len(scores) for name in names}


KNOWN = {"accuracy": Accuracy, "sacrebleu": SacreBleu, "rouge": Rouge}


class Loader(importlib.abc.MetaPathFinder):
    """Replaces `load` as soon as `evaluate` is imported."""

    def find_spec(self, name, path, target=None):
        if name != "evaluate":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.load = lambda metric, *arguments, **options: KNOWN[metric]()

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Loader())
