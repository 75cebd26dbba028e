"""The Trainer: predictions in order, one loss however it is split, the kernels it takes."""

import numpy
import pytest
import torch
from accelerate.data_loader import skip_first_batches
from trainers import LENGTHS, losses_of, rows

from recipes.common.errors import Refusal

pytest_plugins = ["trainers"]


def one_by_one(model, dataset):
    """The scores of each row, run through the model alone."""
    model.eval()
    with torch.inference_mode():
        return numpy.stack([model(input_ids=torch.tensor([row["input_ids"]])).logits[0].numpy() for row in dataset])


@pytest.mark.parametrize(("strategy", "with_length"), [("random", True), ("random", False), ("group_by_length", True)])
def test_predictions_come_back_in_the_order_of_the_rows(strategy, with_length, trainer, model, tokenizer):
    dataset = rows(tokenizer, with_length=with_length)
    output = trainer(dataset, train_sampling_strategy=strategy).predict(dataset)
    expected = one_by_one(model, dataset)
    assert len({tuple(row) for row in expected.round(4)}) >= 10  # each length has its own answer
    assert numpy.allclose(output.predictions, expected, atol=1e-5)
    assert output.label_ids.tolist() == dataset["labels"][:]


def test_predictions_are_in_order_also_where_training_groups_by_length(trainer, model, tokenizer):
    dataset = rows(tokenizer)
    built = trainer(dataset, train_sampling_strategy="group_by_length")
    built.train()
    output = built.predict(dataset)
    assert numpy.allclose(output.predictions, one_by_one(model, dataset), atol=1e-5)


def test_rows_without_labels_are_predicted_in_order(trainer, model, tokenizer):
    dataset = rows(tokenizer).remove_columns("labels")
    output = trainer().predict(dataset)
    assert output.label_ids is None
    assert numpy.allclose(output.predictions, one_by_one(model, dataset), atol=1e-5)


def test_predicting_pads_less_because_rows_of_like_length_stand_together(trainer, tokenizer):
    dataset = rows(tokenizer)
    widths = [batch["input_ids"].shape[1] for batch in trainer().get_test_dataloader(dataset)]
    assert widths == [12, 9, 4]  # lengths with [CLS] and [SEP]: 12 11 10 9 | 9 8 7 6 5 (48 // 9) | 4 3 3


def test_the_evaluation_s_scores_belong_to_their_rows(trainer, tokenizer):
    dataset = rows(tokenizer)
    built = trainer(dataset)
    built.compute_metrics = lambda pair: {"right": float((pair[0].argmax(-1) == pair[1]).mean())}
    output = built.predict(dataset)
    right = (output.predictions.argmax(-1) == numpy.array(dataset["labels"])).mean()
    assert built.evaluate()["eval_right"] == right


def test_the_evaluation_s_loss_is_the_mean_over_the_rows(trainer, model, tokenizer):
    dataset = rows(tokenizer, LENGTHS[:10])
    scores = torch.tensor(one_by_one(model, dataset))
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor(dataset["labels"][:])).item()
    assert trainer(dataset, per_device_eval_batch_size=10).evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-5)


def test_workers_outlive_sigterm_also_after_a_resume_in_mid_epoch(trainer):
    """transformers then builds another loader."""
    loader = trainer(dataloader_num_workers=1).get_train_dataloader()
    for one in (loader, skip_first_batches(loader, 1)):
        assert one.multiprocessing_context.Process.__qualname__.startswith("workers.")


def test_a_loss_that_leaps_is_warned_of_once(trainer, capsys):
    built = trainer()
    for loss in [1.0] * 10 + [2.9, 3.1, 1.0]:
        built.log({"loss": loss})
    assert capsys.readouterr().err.count("the loss rose from 1.000 to 3.100") == 1


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 2), (2, 4), (1, 8)])
def test_accumulated_batches_have_the_loss_and_gradient_of_one_large_batch(batch, accumulation, trainer, tokenizer):
    def first_log(batch, accumulation):
        flags = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation, "max_steps": 1}
        built = trainer(rows(tokenizer, LENGTHS[:8]), learning_rate=0.0, **flags)
        built.train()
        return built.state.log_history[0]

    whole, parts = first_log(8, 1), first_log(batch, accumulation)
    assert parts["loss"] == pytest.approx(whole["loss"], abs=1e-4)
    assert parts["grad_norm"] == pytest.approx(whole["grad_norm"], abs=1e-4)


def test_the_first_logged_loss_is_the_mean_over_the_rows(trainer, model, tokenizer):
    dataset = rows(tokenizer, LENGTHS[:8])
    scores = torch.tensor(one_by_one(model, dataset))
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor(dataset["labels"][:])).item()
    built = trainer(dataset, per_device_train_batch_size=2, gradient_accumulation_steps=4, max_steps=1)
    built.train()
    assert losses_of(built)[0] == pytest.approx(expected, abs=1e-4)


def test_a_schedule_with_unknown_settings_is_refused(trainer):
    with pytest.raises(Refusal, match="unexpected keyword argument 'foo'"):
        trainer(lr_scheduler_kwargs={"foo": 1}).train()


def test_a_model_without_gradient_checkpointing_is_refused(trainer, model):
    model.supports_gradient_checkpointing = False
    with pytest.raises(Refusal, match="cannot compute its activations again"):
        trainer(gradient_checkpointing=True)


@pytest.mark.parametrize(
    ("flags", "quick"), [({}, True), ({"torch_compile": True, "torch_compile_backend": "eager"}, False)]
)
def test_training_and_evaluation_take_the_quick_kernels_where_nothing_is_compiled(flags, quick, trainer, model):
    torchs, seen = torch.nn.functional.dropout, {True: set(), False: set()}

    def look(module, inputs):
        seen[module.training].add(torch.nn.functional.dropout is not torchs)

    model.register_forward_pre_hook(look)
    built = trainer(max_steps=1, **flags)
    built.train()
    built.evaluate()
    assert seen == {True: {quick}, False: {quick}}
