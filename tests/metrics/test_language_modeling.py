"""Token scores: sums over tokens, the same for every batch; the unigram model beside them."""

import math

import numpy
import pytest
import torch
from transformers import EvalPrediction

from recipes.common.metrics import language_modeling
from recipes.common.tokens.blocks import Blocks, Layout

# Two rows of two words; logits give the probabilities below.
HALF, MOST = [0.5, 0.5], [0.9, 0.1]
LOGITS = torch.tensor([[HALF, MOST, HALF], [MOST, MOST, MOST]]).log()
LABELS = torch.tensor([[0, 0, -100], [1, -100, 0]])


def test_sums_by_hand():
    sums = language_modeling.token_sums(shift=False)(LOGITS, LABELS)
    assert sums[0].tolist() == pytest.approx([-math.log(0.5) - math.log(0.9), 2, 2])
    assert sums[1].tolist() == pytest.approx([-math.log(0.1) - math.log(0.9), 1, 2])


def test_causal_logits_predict_the_next_token():
    sums = language_modeling.token_sums(shift=True)(LOGITS, LABELS)
    assert sums[0].tolist() == pytest.approx([-math.log(0.5), 1, 1])
    assert sums[1].tolist() == pytest.approx([-math.log(0.9), 1, 1])


def test_generated_tokens_are_passed_on():
    sums, generated = language_modeling.token_sums(shift=False)((LOGITS, "generated"), LABELS)
    assert sums.shape == (2, 3) and generated == "generated"


def test_perplexity_weighs_tokens_not_batches():
    totals = numpy.array([[9 * math.log(2), 0, 9], [1 * math.log(200), 0, 1]])
    found = language_modeling.scores(totals)
    assert found["perplexity"] == pytest.approx(2**0.9 * 200**0.1)
    assert found["loss"] == found["cross_entropy"] == pytest.approx(math.log(found["perplexity"]))
    assert found["perplexity_low"] < found["perplexity"] < found["perplexity_high"]


def test_no_predicted_token_is_no_division_by_zero():
    assert language_modeling.scores(numpy.zeros((1, 3)))["cross_entropy"] == 0


def blocks(ids):
    return Blocks(
        numpy.array(ids), numpy.array([0]), numpy.array([len(ids)]), Layout(9, 1, 0), trains=True
    )


def test_the_unigram_model_by_hand():
    frequencies = language_modeling.unigram(blocks([0, 0, 0, 1]), vocabulary=2)
    assert frequencies.tolist() == [4 / 6, 2 / 6]
    compute = language_modeling.for_tokens(blocks([0, 0, 0, 1]), 2, shift=False)
    evaluated = blocks([0, 1])
    evaluated.tokens_per_byte = 0.25
    sums = language_modeling.token_sums(shift=False)(LOGITS, LABELS).numpy()
    found = compute(EvalPrediction(sums, LABELS.numpy(), inputs=evaluated))
    assert found["baseline_accuracy"] == 0.75
    assert found["baseline_cross_entropy"] == pytest.approx(
        -(3 * math.log(4 / 6) + math.log(2 / 6)) / 4
    )
    assert found["bits_per_byte"] == pytest.approx(found["cross_entropy"] / math.log(2) / 4)
