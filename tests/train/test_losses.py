"""The one loss: a mean over the rows of the whole optimizer step, however they are split into batches."""

import math

import pytest
import torch
from torch.nn import functional

from recipes.common.data.labels import MULTI, REGRESSION, SINGLE, Labels
from recipes.common.runtime.errors import Refusal
from recipes.common.train import losses

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, -0.5]])
LABELS = torch.tensor([0, 1, 0, 1])
KINDS = {
    SINGLE: (LOGITS, LABELS),
    MULTI: (LOGITS, torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 1.0]])),
    REGRESSION: (LOGITS[:, :1], torch.tensor([1.0, -1.0, 0.5, 2.0])),
}


def loss(kind, logits, labels, number=None, smoothing=0.0, weights=None):
    return losses.for_problem(kind, smoothing, weights)({"logits": logits}, labels, number)


def test_cross_entropy_of_equal_scores_is_the_logarithm_of_the_number_of_classes():
    assert loss(SINGLE, torch.zeros(3, 4), torch.tensor([0, 1, 3])).item() == pytest.approx(
        math.log(4)
    )


def test_cross_entropy_by_hand():
    rows = [
        math.log(1 + math.exp(-2)),
        math.log(1 + math.exp(-1)),
        math.log(2),
        math.log(1 + math.exp(1)),
    ]
    assert loss(SINGLE, LOGITS, LABELS).item() == pytest.approx(sum(rows) / 4)


def test_binary_cross_entropy_by_hand():
    logits, labels = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    assert loss(MULTI, logits, labels).item() == pytest.approx(
        (math.log(2) + math.log(1 + math.exp(2))) / 2
    )


def test_squared_error_by_hand():
    assert (
        loss(REGRESSION, torch.tensor([[1.0], [2.0]]), torch.tensor([2.0, 4.0])).item()
        == (1 + 4) / 2
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_losses_are_torch_s_own_means(kind):
    logits, labels = KINDS[kind]
    own = {
        SINGLE: functional.cross_entropy,
        MULTI: functional.binary_cross_entropy_with_logits,
        REGRESSION: lambda logits, labels: functional.mse_loss(logits.reshape(-1), labels),
    }[kind]
    assert loss(kind, logits, labels).item() == pytest.approx(own(logits, labels).item())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(4,), (2, 2), (1, 3), (1, 1, 1, 1)])
def test_the_losses_of_micro_batches_add_up_to_that_of_the_whole_batch(kind, sizes):
    logits, labels = KINDS[kind]
    number = torch.tensor(labels.numel())
    parts = zip(logits.split(list(sizes)), labels.split(list(sizes)), strict=True)
    total = sum(loss(kind, part, answers, number).item() for part, answers in parts)
    assert total == pytest.approx(loss(kind, logits, labels).item())


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradients_of_micro_batches_add_up_to_that_of_the_whole_batch(kind):
    logits, labels = KINDS[kind]
    gradients = []
    for sizes in ([4], [1, 3]):
        leaf = logits.clone().requires_grad_()
        for part, answers in zip(leaf.split(sizes), labels.split(sizes), strict=True):
            loss(kind, part, answers, labels.numel()).backward(retain_graph=True)
        gradients.append(leaf.grad)
    assert torch.allclose(*gradients, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_label_smoothing_is_torch_s(smoothing):
    expected = functional.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)
    assert loss(SINGLE, LOGITS, LABELS, smoothing=smoothing).item() == pytest.approx(
        expected.item()
    )


def test_label_smoothing_of_several_labels_moves_each_towards_one_half():
    logits, labels = KINDS[MULTI]
    expected = functional.binary_cross_entropy_with_logits(logits, labels * 0.8 + 0.1)
    assert loss(MULTI, logits, labels, smoothing=0.2).item() == pytest.approx(expected.item())


MISSING = {SINGLE: -100, MULTI: -100.0, REGRESSION: math.nan}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_row_without_a_label_counts_neither_in_the_sum_nor_in_the_number(kind, smoothing):
    logits, labels = KINDS[kind]
    holed = labels.clone()
    holed[1] = MISSING[kind]
    kept = torch.tensor([0, 2, 3])
    expected = loss(kind, logits[kept], labels[kept], smoothing=smoothing).item()
    assert loss(kind, logits, holed, smoothing=smoothing).item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [None, 0, torch.tensor(0)])
def test_a_batch_without_any_label_is_0_and_so_is_its_gradient(kind, number):
    logits = KINDS[kind][0].clone().requires_grad_()
    value = loss(kind, logits, torch.full_like(KINDS[kind][1], MISSING[kind]), number)
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_half_precision_scores_are_summed_in_float32():
    value = loss(SINGLE, LOGITS.bfloat16(), LABELS)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(SINGLE, LOGITS, LABELS).item())


def labels_of(counts, kind=SINGLE):
    names = [str(number) for number in range(len(counts))]
    return Labels(
        kind, names, {name: number for number, name in enumerate(names)}, counts, sum(counts), 0.0
    )


@pytest.mark.parametrize(
    ("counts", "weights"),
    [([8, 2], [0.625, 2.5]), ([5, 5], [1.0, 1.0]), ([6, 3, 3], [2 / 3, 4 / 3, 4 / 3])],
)
def test_balanced_weights_are_rows_by_classes_times_rows_of_the_class(counts, weights):
    found = losses.class_weights("balanced", labels_of(counts))
    assert found == pytest.approx(weights)
    assert sum(
        weight * count for weight, count in zip(found, counts, strict=True)
    ) == pytest.approx(sum(counts))


def test_a_class_without_rows_has_a_finite_weight():
    assert losses.class_weights("balanced", labels_of([4, 0])) == [0.5, 2.0]


def test_weights_are_none_unless_asked_for_and_refused_for_several_labels():
    assert losses.class_weights(None, labels_of([8, 2])) is None
    with pytest.raises(Refusal, match="one class per row"):
        losses.class_weights("balanced", labels_of([8, 2], MULTI))


def test_a_weight_multiplies_its_class_s_rows_and_the_mean_stays_over_rows():
    rows = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    expected = (0.5 * rows[0] + 3 * rows[1] + 0.5 * rows[2] + 3 * rows[3]) / 4
    assert loss(SINGLE, LOGITS, LABELS, weights=[0.5, 3.0]).item() == pytest.approx(expected.item())


def test_balanced_weights_give_each_class_the_same_part_in_the_loss():
    labels = torch.tensor([0] * 8 + [1] * 2)
    logits = torch.zeros(10, 2, requires_grad=True)
    loss(SINGLE, logits, labels, weights=[0.625, 2.5]).backward()
    assert logits.grad[labels == 0].abs().sum().item() == pytest.approx(
        logits.grad[labels == 1].abs().sum().item()
    )
