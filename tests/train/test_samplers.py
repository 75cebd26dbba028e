"""The order of rows: from seed and epoch alone, rows of like length together, batches of so many tokens."""

import numpy
import pytest
import torch
from datasets import Dataset
from transformers import TrainingArguments

from recipes.common.runtime.errors import Refusal
from recipes.common.train import samplers
from recipes.common.train.samplers import EvaluationBatches, Shuffled, TokenBatches

LENGTHS = [5, 1, 9, 3, 7, 2, 8, 4, 6, 10, 11]


def order(epoch, lengths=None, seed=1, step=4):
    sampler = Shuffled(range(len(LENGTHS)), seed, lengths, step)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_the_order_of_rows_follows_from_seed_and_epoch_alone():
    torch.manual_seed(7)
    first = order(0)
    torch.manual_seed(8)
    assert order(0) == first
    assert sorted(first) == list(range(11))
    assert order(1) != first
    assert order(0, seed=2) != first


def test_rows_of_like_length_are_trained_on_together_and_the_longest_first():
    steps = [[LENGTHS[row] for row in order(0, LENGTHS)[start : start + 4]] for start in (0, 4, 8)]
    assert steps == [[11, 10, 9, 8], [7, 6, 5, 4], [3, 2, 1]]


@pytest.mark.parametrize("steps, window", [(64, 8), (160, 20), (800, 50)])
def test_rows_are_sorted_within_an_eighth_of_an_epoch_of_8_to_50_steps(steps, window):
    """Two rows of a step are neighbours among 2 x window, drawn from lengths 0, 1, 2, ...: so far apart on average."""
    lengths = numpy.arange(2 * steps)
    pairs = numpy.reshape(list(Shuffled(range(len(lengths)), 1, lengths, 2)), (-1, 2))
    assert numpy.ptp(lengths[pairs], axis=1).mean() == pytest.approx(
        2 * steps / (2 * window + 1), rel=0.2
    )


def test_few_rows_with_lengths_are_all_drawn():
    assert sorted(Shuffled(range(3), 1, [5, 1, 2], 8)) == [0, 1, 2]


def test_a_data_set_that_counts_epochs_is_told():
    class Counting(list):
        def set_epoch(self, epoch):
            self.epoch = epoch

    rows = Counting([1, 2])
    Shuffled(rows, 1).set_epoch(3)
    assert rows.epoch == 3


def batches(budget, epoch=0, accumulated=1, processes=1, rank=0):
    sampler = TokenBatches(range(len(LENGTHS)), 1, LENGTHS, budget, accumulated, processes, rank)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_a_batch_holds_as_many_rows_as_its_tokens_allow_padding_counted():
    found = sorted([sorted(LENGTHS[row] for row in batch) for batch in batches(20)], reverse=True)
    assert found == [
        [11],
        [9, 10],
        [7, 8],
        [4, 5, 6],
        [1, 2, 3],
    ]  # 3 x 6 and 2 x 10 tokens; 3 x 10 would be 30


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own():
    assert [11] in [[LENGTHS[row] for row in batch] for batch in batches(10)]


def test_batches_of_one_row_that_processes_cannot_share_are_refused():
    """One of them would get an empty batch."""
    with pytest.raises(Refusal, match="3 rows make 3 batches, which 2 processes cannot share"):
        TokenBatches(range(3), 1, [600, 600, 600], 1024, accumulated=1, processes=2, rank=0)


def test_every_epoch_has_the_same_number_of_batches_and_every_row_once_in_another_order():
    first, second = batches(20, epoch=0), batches(20, epoch=1)
    assert len(first) == len(second) == 5
    assert first != second
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(11))


def test_processes_share_the_batches_evenly():
    shares = [batches(20, processes=2, rank=rank) for rank in (0, 1)]
    assert [len(share) for share in shares] == [3, 3]  # the largest of five is split
    assert sorted(sum(shares[0] + shares[1], [])) == list(range(11))


def test_a_step_is_the_same_rows_on_two_processes_as_with_two_batches_accumulated():
    one = TokenBatches(range(11), 1, LENGTHS, 12, accumulated=2, processes=1, rank=0)
    two = TokenBatches(range(11), 1, LENGTHS, 12, accumulated=1, processes=2, rank=0)
    assert len(list(one)) % 2 == 0  # or one more batch is needed for two processes
    assert one.steps == two.steps == len(two)
    for step in range(2 * one.steps):
        assert one.rows_of_step(step) == two.rows_of_step(step)


def test_more_processes_than_rows_are_refused():
    with pytest.raises(Refusal, match="12 processes share 11 rows"):
        batches(20, processes=12)


def test_tokens_a_batch_need_lengths(tmp_path):
    with pytest.raises(Refusal, match="lengths of a stream's rows are not known"):
        samplers.for_training(Dataset.from_dict({"a": [1]}), TrainingArguments(str(tmp_path)), 100)


def test_the_share_of_padding_by_hand():
    class Two:
        def batches(self):
            return [numpy.array([0, 1]), numpy.array([2])]

    assert samplers.padding_share(Two(), [4, 2, 6]) == pytest.approx(2 / 14)


def test_rows_of_like_length_need_less_padding():
    lengths = numpy.random.default_rng(0).integers(1, 100, size=1000)
    grouped, random = (Shuffled(range(1000), 1, chosen, 16, 16) for chosen in (lengths, None))
    by_tokens = TokenBatches(range(1000), 1, lengths, 1600, 1, 1, 0)
    assert samplers.padding_share(random, lengths) > 0.4
    assert samplers.padding_share(grouped, lengths) < 0.12
    assert samplers.padding_share(by_tokens, lengths) < 0.05


def evaluated(rows, processes=1, written=0):
    """The lengths of every batch, of every process."""
    batches = [
        EvaluationBatches(LENGTHS, rows, processes, rank, written) for rank in range(processes)
    ]
    return [[[LENGTHS[row] for row in batch] for batch in one] for one in batches]


def test_evaluation_takes_the_longest_rows_first_and_then_as_many_tokens():
    assert evaluated(2) == [
        [[11, 10], [9, 8], [7, 6, 5], [4, 3, 2, 1]]
    ]  # 22 tokens: 2 x 9, 3 x 7, 5 x 4


def test_tokens_that_are_written_count_in_an_evaluation_s_batches():
    assert evaluated(2, written=9) == [
        [[11, 10], [9, 8], [7, 6], [5, 4], [3, 2, 1]]
    ]  # 40: 2 x 18, 2 x 14, 3 x 12
    assert evaluated(2, written=numpy.asarray(LENGTHS)) == evaluated(2)


def test_processes_evaluate_as_many_rows_of_each_batch_and_the_last_ones_repeat():
    first, second = evaluated(2, processes=2)
    assert first == [[11, 10], [7, 6, 5], [1]]
    assert second == [[9, 8], [4, 3, 2], [11]]


@pytest.mark.parametrize("processes", [1, 2, 3, 20])
def test_what_processes_evaluated_comes_back_in_order(processes):
    batches = [EvaluationBatches(LENGTHS, 2, processes, rank) for rank in range(processes)]
    gathered = numpy.asarray(
        [row for together in zip(*batches, strict=True) for batch in together for row in batch]
    )
    dataset = Dataset.from_dict({"length": LENGTHS})
    assert samplers.in_order(dataset, gathered).tolist() == list(range(11))
    assert samplers.in_order(dataset, (gathered, None))[1] is None


def test_rows_of_unknown_length_are_evaluated_as_they_come(tmp_path):
    dataset = Dataset.from_dict({"a": [1, 2]})
    assert samplers.for_evaluation(dataset, TrainingArguments(str(tmp_path))) is None
    assert samplers.in_order(dataset, numpy.asarray([5, 6])).tolist() == [5, 6]
