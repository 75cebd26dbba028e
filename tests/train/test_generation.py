"""TextGeneration: as long as was asked for, or as the training data answers texts of that length."""

from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from transformers import T5Config, T5ForConditionalGeneration

from recipes.common.data.labels import MISSING
from recipes.common.runtime.errors import Refusal
from recipes.common.train.generation import TextGeneration

TRAIN = Dataset.from_dict(
    {
        "length": [10, 20, 30, 40],
        "labels": [[1] * 8, [1] * 24, [1] * 16, [1] * 40],
    }  # 30 tokens got fewer than 20
)


@pytest.fixture
def model():
    """An untrained T5, which never ends by itself."""
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 32, "num_layers": 1}
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=50, decoder_start_token_id=0, eos_token_id=None, pad_token_id=0, **sizes
        )
    ).eval()


@pytest.fixture
def answers(model):
    def build(train=TRAIN, generation_max_length=None, eval_batch_size=8, **flags):
        flags = {"val_max_target_length": None, "max_target_length": 128, "num_beams": None} | flags
        flags = {"interim_eval_samples": 2} | flags
        training = {
            "generation_max_length": generation_max_length,
            "generation_num_beams": None,
            "seed": 1,
        }
        training |= {"generation_config": None}
        training = SimpleNamespace(**training, train_batch_size=8, eval_batch_size=eval_batch_size)
        return TextGeneration(
            model, SimpleNamespace(**flags), training, SimpleNamespace(train=train)
        )

    return build


def test_answers_grow_a_quarter_longer_than_those_to_texts_as_long_or_shorter(answers, model):
    limits = answers().limits([5, 10, 19, 20, 35, 40, 1000])
    assert limits.tolist() == [12, 12, 12, 30, 30, 50, 50]  # 8 + 4, 24 + 6, 40 + 10
    assert model.generation_config.max_new_tokens == 50


def test_a_few_long_answers_do_not_bound_the_others(answers, model):
    lengths, labels = (
        [20] * 1000 + [30] * 200,
        [[1] * 20] * 996 + [[1] * 100] * 4 + [[1] * 40] * 200,
    )
    limits = answers(Dataset.from_dict({"length": lengths, "labels": labels})).limits(
        [20, 29, 30, 31]
    )
    assert limits.tolist() == [25, 25, 50, 125]  # 20 + 5, 40 + 10, and beyond all texts 100 + 25
    assert model.generation_config.max_new_tokens == 125


def test_a_long_answer_to_a_short_text_does_not_bound_longer_ones(answers):
    """200 texts of 10 tokens, of whose answers one is long, and 200 of 20."""
    labels = [[1] * 90, *[[1] * 8] * 199, *[[1] * 16] * 200]
    limits = answers(
        Dataset.from_dict({"length": [10] * 200 + [20] * 200, "labels": labels})
    ).limits([10, 20])
    assert limits.tolist() == [20, 20]  # 16 + 4


def test_no_answer_is_longer_than_the_targets_were_cut_to(answers):
    assert answers(max_target_length=40).limits([40]) == 40


@pytest.mark.parametrize("flags", [{"val_max_target_length": 60}, {"generation_max_length": 60}])
def test_a_length_that_was_asked_for_holds_for_every_text(flags, answers, model):
    assert answers(**flags).limits([5, 40]).tolist() == [60, 60]
    assert model.generation_config.max_new_tokens == 60


def test_without_training_data_the_model_s_own_length_holds_or_the_targets(answers, model):
    assert answers(train=None).limits([5]) == 128
    model.generation_config.max_new_tokens = 7
    assert answers(train=None).limits([5]) == 7


def test_the_model_s_positions_and_its_shortest_answer_are_kept(answers, model):
    model.config.max_position_embeddings = 20
    model.generation_config.min_length = 15
    assert answers().limits([5, 40]).tolist() == [16, 19]


def test_answers_with_the_encoder_s_states_are_those_without(answers, model):
    inputs = {
        "input_ids": torch.arange(1, 11).reshape(1, 10),
        "attention_mask": torch.ones(1, 10, dtype=torch.int64),
    }
    states = model.encoder(**inputs).last_hidden_state
    writer, reads = answers(), []
    model.encoder.register_forward_hook(lambda *_: reads.append(1))
    written = writer.write(model, inputs, [states], is_sharded=False)
    assert written.shape == (1, 1 + 12)
    assert not reads
    assert torch.equal(writer.write(model, inputs, [None], is_sharded=False), written)
    assert len(reads) == 1


@pytest.mark.parametrize(
    "rows, beams, together", [(8, 1, 4), (4, 1, 4), (16, 1, 2), (64, 1, 1), (8, 2, 2), (8, 5, 1)]
)
def test_batches_are_written_about_together_within_the_memory_of_training(
    rows, beams, together, answers
):
    """Training takes 8 rows: 4 x 8 may be written about, a beam counting as a row."""
    assert answers(eval_batch_size=rows, num_beams=beams).batches_at_once == together


@pytest.mark.parametrize(
    "rows, parts",
    [(3, [3]), (8, [8]), (10, [8, 2]), (32, [8] * 4), (50, [13, 13, 13, 11])],
    ids=str,
)
def test_what_is_written_about_together_is_scored_in_batches(rows, parts, answers):
    ids = torch.arange(2 * rows).reshape(rows, 2)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.arange(rows)[:, None],
    }
    found = answers().parts(inputs)
    assert [len(part["labels"]) for part in found] == parts
    for name, values in inputs.items():
        assert torch.equal(torch.cat([part[name] for part in found]), values)


def test_a_part_is_as_long_as_it_needs_to_be(answers, model):
    lengths = [9] * 8 + [4] * 8  # of texts, and of answers a third
    real = torch.arange(9) < torch.tensor(lengths)[:, None]
    labels = torch.full((16, 3), 7).masked_fill(~real[:, ::3], MISSING)
    inputs = {
        "input_ids": torch.randint(1, 50, (16, 9)) * real,
        "attention_mask": real.long(),
        "labels": labels,
    }
    parts = answers().parts(inputs | {"decoder_input_ids": labels.clamp(min=0)})
    assert [[list(values.shape) for values in part.values()] for part in parts] == [
        [[8, 9], [8, 9], [8, 3], [8, 3]],
        [[8, 4], [8, 4], [8, 2], [8, 2]],
    ]
    encoded = [
        model.encoder(part["input_ids"], part["attention_mask"]).last_hidden_state for part in parts
    ]
    wanted = answers().write(model, inputs, [None], is_sharded=False)
    assert torch.equal(answers().write(model, inputs, encoded, is_sharded=False), wanted)


def test_without_any_label_a_part_keeps_a_column(answers):
    ids = torch.ones(16, 2, dtype=torch.int64)
    inputs = {"input_ids": ids, "attention_mask": ids, "labels": torch.full((16, 3), MISSING)}
    assert [part["labels"].shape for part in answers().parts(inputs)] == [(8, 1)] * 2


def test_a_sample_is_the_same_rows_each_time_in_their_order(answers):
    first, second = (answers(interim_eval_samples=3).sample(TRAIN)["length"][:] for _ in range(2))
    assert first == second == sorted(first)
    assert len(set(first)) == 3


@pytest.mark.parametrize("most", [0, 4, 5])
def test_a_sample_of_more_rows_than_there_are_is_all_of_them(most, answers):
    assert answers(interim_eval_samples=most).sample(TRAIN) is TRAIN


def test_a_model_that_searches_by_default_can_be_saved_when_it_does_not(answers, model, tmp_path):
    """BART's published settings: without beams they are invalid, and no checkpoint could be written."""
    settings = {"num_beams": 4, "early_stopping": True, "length_penalty": 2.0}
    model.generation_config.update(**settings)
    answers(num_beams=1)
    model.save_pretrained(tmp_path)
    model.generation_config.update(**settings)
    answers()
    assert model.generation_config.length_penalty == 2.0


def test_settings_that_no_checkpoint_could_be_saved_with_are_refused(answers, model):
    model.generation_config.update(do_sample=False, temperature=0.5)
    with pytest.raises(Refusal, match="temperature"):
        answers()
