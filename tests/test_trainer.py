"""The Trainer: predictions in order, whole checkpoints, a loss that stays finite, and one loss however it is split."""

import itertools
import json
import math
import os
import signal

import numpy
import pytest
import safetensors.torch
import torch
import transformers
from accelerate.data_loader import skip_first_batches
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, DataCollatorWithPadding, TrainingArguments
from transformers.utils import logging

from recipes.common import checkpoints, finite, losses, manifests, signals, states
from recipes.common.errors import Refusal, TrainingFailed
from recipes.common.labels import SINGLE
from recipes.common.models import parameters
from recipes.common.orders import Shuffled
from recipes.common.trainer import Trainer
from recipes.common.vocabularies import train_tokenizer

WORDS = "one two three four five six seven eight nine ten"
LENGTHS = [3, 10, 1, 7, 7, 2, 9, 4, 8, 5, 6, 1]
logging.disable_progress_bar()


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([WORDS] * 50, "wordpiece", 300, "bert")


@pytest.fixture
def model(tokenizer):
    """A tiny classifier without dropout, with the same random weights every time."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.5}
    return BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), num_labels=2, **sizes, **none))


def rows(tokenizer, lengths=LENGTHS, with_length=True):
    """Tokenised rows of so many words, labelled 0, 1, 0, 1, …"""
    encoded = tokenizer([" ".join(WORDS.split()[:length]) for length in lengths])
    columns = {**encoded, "labels": [row % 2 for row in range(len(lengths))]}
    return Dataset.from_dict(columns | ({"length": [length + 2 for length in lengths]} if with_length else {}))


@pytest.fixture
def trainer(model, tokenizer, tmp_path):
    """A Trainer on these rows; flags of TrainingArguments by name."""

    def build(dataset=None, validation=None, **flags):
        options = {"use_cpu": True, "disable_tqdm": True, "logging_steps": 1, "seed": 1, "max_steps": 2}
        options |= {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "save_strategy": "no"}
        dataset = rows(tokenizer) if dataset is None else dataset
        return Trainer(
            model=model,
            args=TrainingArguments(str(tmp_path / "out"), **{**options, **flags}),
            train_dataset=dataset,
            eval_dataset=dataset if validation is None else validation,
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_loss_func=losses.for_problem(SINGLE),
        )

    return build


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


def test_a_saved_model_has_no_pickle_beside_it(trainer, tmp_path):
    built = trainer(save_strategy="steps", save_steps=1, hub_token="hf_secret")
    built.train()
    built.save_model()
    assert (tmp_path / "out/model.safetensors").exists()
    assert not list((tmp_path / "out").rglob("training_args.bin"))
    texts = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(b"hf_secret" in text for text in texts)


def test_a_checkpoint_is_whole_and_nothing_is_left_beside_it(trainer, tmp_path):
    trainer(save_strategy="steps", save_steps=1).train()
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == ["checkpoint-1", "checkpoint-2"]
    assert all(manifests.intact(tmp_path / "out" / name) for name in folders)
    manifest = json.loads((tmp_path / "out/checkpoint-2/manifest.json").read_text())
    names = {f"{name}.safetensors" for name in ("model", "optimizer", "scheduler", "process_0")}
    assert names | {"trainer_state.json", "fingerprint.json"} <= manifest["files"].keys()


def test_a_checkpoint_s_state_is_that_of_its_own_step(trainer, tmp_path):
    trainer(save_strategy="steps", save_steps=1).train()
    for step in (1, 2):
        state = json.loads((tmp_path / f"out/checkpoint-{step}/trainer_state.json").read_text())
        assert state["global_step"] == step


@pytest.mark.parametrize("limit", [1, 2])
def test_only_so_many_checkpoints_are_kept(limit, trainer, tmp_path):
    trainer(save_strategy="steps", save_steps=1, max_steps=4, save_total_limit=limit).train()
    assert sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*")) == [
        f"checkpoint-{step}" for step in range(5 - limit, 5)
    ]


def test_the_best_checkpoint_is_kept_loaded_and_named_where_it_stands(trainer, tmp_path):
    flags = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 1,
    }
    built = trainer(**flags, load_best_model_at_end=True, greater_is_better=False, max_steps=4, learning_rate=0.5)
    built.train()
    scores = {log["step"]: log["eval_loss"] for log in built.state.log_history if "eval_loss" in log}
    best = min(scores, key=scores.get)
    assert built.state.best_model_checkpoint == str(tmp_path / f"out/checkpoint-{best}")
    assert (tmp_path / f"out/checkpoint-{best}").is_dir()
    assert built.evaluate()["eval_loss"] == pytest.approx(scores[best], abs=1e-5)


def test_the_best_model_is_one_that_was_saved_where_fewer_are_saved_than_evaluated(trainer, tmp_path):
    flags = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 3, "max_steps": 7}
    flags |= {"load_best_model_at_end": True, "greater_is_better": False, "learning_rate": 1.0}
    built = trainer(**flags)
    built.train()
    scores = {log["step"]: log["eval_loss"] for log in built.state.log_history if "eval_loss" in log}
    best = min((3, 6, 7), key=scores.get)
    assert min(scores.values()) < scores[best]
    assert built.state.best_model_checkpoint == str(tmp_path / f"out/checkpoint-{best}")
    assert built.state.best_metric == scores[best]
    assert built.evaluate()["eval_loss"] == pytest.approx(scores[best], abs=1e-5)


def test_a_checkpoint_on_disk_knows_the_best_one_by_its_final_name(trainer, tmp_path):
    flags = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer(**flags, load_best_model_at_end=True).train()
    for step in (1, 2):
        state = json.loads((tmp_path / f"out/checkpoint-{step}/trainer_state.json").read_text())
        assert state["best_model_checkpoint"] == str(tmp_path / f"out/checkpoint-{state['best_global_step']}")


def losses_of(built):
    return [log["loss"] for log in built.state.log_history if "loss" in log]


def test_a_run_that_goes_on_from_a_checkpoint_ends_as_if_it_had_never_stopped(trainer, model, tokenizer, tmp_path):
    start = {name: value.clone() for name, value in model.state_dict().items()}
    whole = trainer(save_strategy="steps", save_steps=2, max_steps=4)
    whole.train()
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(start)
    resumed = trainer(save_strategy="steps", save_steps=2, max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-2"))
    assert losses_of(resumed) == losses_of(whole)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def edit(path, change):
    """Writes a JSON file, or a state, again with a change."""
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    else:
        content = states.read(path)
        change(content)
        states.write(content, path)


def without(path, name):
    """Writes the weights again without one of them."""
    weights = safetensors.torch.load_file(path)
    weights.pop(name)
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})


PLACE = {"loss": 0.0, "total_loss": 0.0, "logged_step": 0, "seconds": 1.0, "pending": None}
UNREADABLE = {  # the file of a checkpoint, what is done to it, words of the refusal
    "weights of no kind": ("model.safetensors", lambda path: path.write_bytes(b"x" * 99), "SafetensorError"),
    "a weight less": ("model.safetensors", lambda path: without(path, "classifier.weight"), "classifier.weight"),
    "another configuration": ("config.json", lambda path: path.write_text("{"), "JSONDecodeError"),
    "no state": ("trainer_state.json", lambda path: path.write_text("[]"), "TypeError"),
    "a state of another step": ("trainer_state.json", {"global_step": 1}, "global_step is 1"),
    "a step in words": ("trainer_state.json", {"max_steps": "4"}, "max_steps is a str"),
    "a log without steps": ("trainer_state.json", {"log_history": [{"loss": 1.0}]}, "step"),
    "a log in words": ("trainer_state.json", {"log_history": [{"step": 1, "loss": "x"}]}, "no number"),
    "no control": ("trainer_state.json", {"stateful_callbacks": {}}, "TrainerControl"),
    "no optimizer": ("optimizer.safetensors", lambda path: path.write_bytes(b""), "header too small"),
    "an optimizer's nothing": ("optimizer.safetensors", {"param_groups": []}, "param_groups"),
    "a schedule in words": ("scheduler.safetensors", {"last_epoch": "x"}, "last_epoch is a str, not a int"),
    "no random state": ("process_0.safetensors", {"random": {}}, "python"),
    "no place": ("process_0.safetensors", {"place": {"loss": 0.0}}, "total_loss"),
    "a place in words": ("process_0.safetensors", {"place": PLACE | {"loss": "x"}}, "loss is a str, not a int"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_checkpoint_that_no_run_has_written_is_refused_in_words(case, trainer, tmp_path):
    name, damage, words = UNREADABLE[case]
    trainer(save_strategy="steps", save_steps=2, max_steps=4).train()
    checkpoint = tmp_path / "out/checkpoint-2"
    if callable(damage):
        damage(checkpoint / name)
    else:
        edit(checkpoint / name, lambda content: content.update(damage))
    with pytest.raises(Refusal) as refusal:
        trainer(save_strategy="steps", save_steps=2, max_steps=4).train(resume_from_checkpoint=str(checkpoint))
    assert "the checkpoint cannot be read" in refusal.value.what and words in refusal.value.what
    assert (refusal.value.where, refusal.value.fix.partition(":")[0]) == (str(checkpoint), f"remove {checkpoint}")


def test_a_best_checkpoint_that_was_damaged_since_is_not_the_final_model(trainer, tmp_path):
    class Damage(transformers.TrainerCallback):
        def on_save(self, args, state, control, **options):
            if state.global_step == 4:
                best = tmp_path / f"out/checkpoint-{state.best_global_step}/model.safetensors"
                best.write_bytes(best.read_bytes()[:-1] + b"x")

    flags = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 4}
    built = trainer(**flags, load_best_model_at_end=True)
    built.add_callback(Damage)
    with pytest.raises(Refusal, match=r"the best checkpoint is damaged: model\.safetensors has another content"):
        built.train()


class StopAtStep(transformers.TrainerCallback):
    """Sends SIGTERM after a step has been logged, before it is evaluated."""

    def __init__(self, step):
        self.step = step

    def on_log(self, args, state, control, **options):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_stopped_in_an_evaluation_before_a_save_goes_on_with_the_same_dropout(trainer, model, tmp_path):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    start = {name: value.clone() for name, value in model.state_dict().items()}
    both = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "max_steps": 6}
    whole = trainer(**both)
    whole.train()
    model.load_state_dict(start)
    stopped = trainer(**both)
    stopped.add_callback(StopAtStep(4))
    signals.listen()
    try:
        with pytest.raises(signals.Stopped):
            stopped.train()
    finally:
        signals.leave()
    resumed = trainer(**both)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-4"))
    assert losses_of(resumed) == losses_of(whole)


def test_a_run_stopped_while_it_saves_goes_on_from_the_checkpoint_before(trainer, tmp_path, monkeypatch):
    built = trainer(save_strategy="steps", save_steps=1)

    def fail_at_the_second(staged, final, publish=manifests.publish):
        if final.name == "checkpoint-2":
            raise KeyboardInterrupt
        publish(staged, final)

    monkeypatch.setattr(manifests, "publish", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        built.train()
    assert checkpoints.newest(tmp_path / "out") == tmp_path / "out/checkpoint-1"
    monkeypatch.undo()
    built.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-1"))
    assert checkpoints.newest(tmp_path / "out") == tmp_path / "out/checkpoint-2"
    assert not list((tmp_path / "out").glob(".saving-*"))


@pytest.mark.parametrize("flags", [{}, {"max_grad_norm": 0.0}, {"logging_steps": 2}])
def test_weights_that_are_not_finite_stop_the_training(flags, trainer, model):
    model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingFailed, match="is nan") as caught:
        trainer(logging_nan_inf_filter=False, **flags).train()
    assert caught.value.exit_code == 1
    assert "--learning_rate" in caught.value.fix


def test_a_learning_rate_beyond_all_measure_stops_the_training_before_a_broken_model_is_saved(trainer, tmp_path):
    built = trainer(learning_rate=1e38, logging_nan_inf_filter=False, max_steps=5, save_strategy="steps", save_steps=1)
    with pytest.raises(TrainingFailed, match="a weight is not finite") as caught:
        built.train()
    assert caught.value.where.startswith("after step 1")
    assert checkpoints.newest(tmp_path / "out") is None


def test_a_broken_model_is_not_saved_between_two_logged_losses(trainer, model, tmp_path):
    """Otherwise --save_total_limit removes the last good checkpoint before the loss is looked at."""
    model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingFailed):
        trainer(logging_nan_inf_filter=False, logging_steps=3, max_steps=3, save_strategy="steps", save_steps=1).train()
    assert checkpoints.newest(tmp_path / "out") is None


def test_a_run_that_logs_no_loss_at_all_is_stopped_too(trainer, model):
    model.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingFailed):
        trainer(logging_nan_inf_filter=False, logging_steps=100).train()


@pytest.mark.parametrize("norm", [1.0, 0.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_ends_the_run_before_the_step_and_names_the_rows(value, norm, trainer, tmp_path):
    built = trainer(max_steps=6, max_grad_norm=norm, save_strategy="steps", save_steps=1)
    calls = itertools.count(1)
    weight = built.model.classifier.weight
    weight.register_hook(lambda gradient: gradient * value if next(calls) == 3 else gradient)
    with pytest.raises(TrainingFailed, match="the gradient norm is") as caught:
        built.train()
    assert caught.value.where.startswith("after step 2, rows in ")
    assert all(parameter.isfinite().all() for parameter in built.model.parameters())
    assert checkpoints.newest(tmp_path / "out") == tmp_path / "out/checkpoint-2"
    rows = json.loads((tmp_path / "out/not_finite.json").read_text())["rows"]
    assert rows == list(Shuffled(range(12), 1))[8:12]


def test_a_step_that_the_scaler_of_fp16_skips_is_no_failure(trainer):
    built = trainer()
    built.args.fp16 = True
    built.log({"loss": 1.0, "grad_norm": math.inf})
    with pytest.raises(TrainingFailed, match="loss is nan"):
        built.log({"loss": math.nan, "grad_norm": math.inf})


def test_workers_outlive_sigterm_also_after_a_resume_in_mid_epoch(trainer):
    """transformers then builds another loader."""
    loader = trainer(dataloader_num_workers=1).get_train_dataloader()
    for one in (loader, skip_first_batches(loader, 1)):
        assert one.multiprocessing_context.Process.__qualname__.startswith("workers.")


class LateNorm(finite.Norm):
    """A gradient norm as if from a GPU."""

    late = True

    def __init__(self, value, step):
        self.value, self.step = value, step

    def __float__(self):
        return float(self.value)


@pytest.mark.parametrize("step", [1, 2])  # in the midst of an epoch, and its last
@pytest.mark.parametrize("flags", [{}, {"save_strategy": "steps", "save_steps": 1}, {"eval_strategy": "steps"}])
def test_a_norm_that_is_known_late_ends_the_run_before_anything_follows(flags, step, trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(finite, "Norm", LateNorm)
    built = trainer(max_steps=6, logging_steps=100, eval_steps=step + 1, **flags)
    built.compute_metrics = lambda prediction: pytest.fail("it is evaluated")
    calls = itertools.count()
    built.model.classifier.weight.register_hook(lambda gradient: gradient * (math.nan if next(calls) == step else 1))
    with pytest.raises(TrainingFailed, match="the gradient norm is nan") as caught:
        built.train()
    assert caught.value.where.startswith(f"after step {step}, rows in ")
    saved = tmp_path / f"out/checkpoint-{step}" if "save_steps" in flags else None
    assert checkpoints.newest(tmp_path / "out") == saved
    rows = json.loads((tmp_path / "out/not_finite.json").read_text())["rows"]
    assert rows == list(Shuffled(range(12), 1))[4 * step : 4 * step + 4]


class Overflow(transformers.TrainerCallback):
    """The optimizer's step makes a weight infinite."""

    def on_optimizer_step(self, args, state, control, model=None, **options):
        model.classifier.bias.data[0] = float("inf")


@pytest.mark.parametrize("saved", ["no", "steps"])
def test_weights_that_the_last_step_made_infinite_are_not_published(saved, trainer, tmp_path):
    """No loss follows that step."""
    built = trainer(max_steps=1, save_strategy=saved, save_steps=1)
    built.add_callback(Overflow)
    with pytest.raises(TrainingFailed, match="a weight is not finite"):
        built.train()
    assert checkpoints.newest(tmp_path / "out") is None


def test_a_loss_that_leaps_is_warned_of_once(trainer, capsys):
    built = trainer()
    for loss in [1.0] * 10 + [2.9, 3.1, 1.0]:
        built.log({"loss": loss})
    assert capsys.readouterr().err.count("the loss rose from 1.000 to 3.100") == 1


def test_a_finite_run_is_not_stopped(trainer):
    built = trainer(logging_nan_inf_filter=False)
    built.train()
    assert built.state.global_step == 2


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


def test_a_best_model_by_an_unknown_metric_is_refused_with_the_nearest(trainer):
    strategies = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    flags = {"load_best_model_at_end": True, "metric_for_best_model": "los", **strategies}
    with pytest.raises(Refusal, match="no metric 'los'") as caught:
        trainer(**flags).train()
    assert caught.value.fix == "did you mean loss?"


def test_a_model_without_gradient_checkpointing_is_refused(trainer, model):
    model.supports_gradient_checkpointing = False
    with pytest.raises(Refusal, match="cannot compute its activations again"):
        trainer(gradient_checkpointing=True)


def test_every_process_draws_other_random_numbers(trainer, monkeypatch):
    monkeypatch.setattr(transformers.Trainer, "train", lambda *_, **__: torch.rand(1).item())
    drawn = set()
    for rank in range(3):
        monkeypatch.setattr(TrainingArguments, "process_index", rank)
        drawn.add(trainer().train())
    assert len(drawn) == 3


def test_parameters_are_counted_with_those_that_are_trained():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    model[0].requires_grad_(False)
    assert parameters(model) == (4 * 3 + 3 + 3 * 2 + 2, 3 * 2 + 2)


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
