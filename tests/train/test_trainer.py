"""The Trainer: predictions in order, one loss however it is split, the kernels it takes."""

import shutil
import signal
from functools import partial
from types import SimpleNamespace

import numpy
import pytest
import safetensors.torch
import torch
import transformers
from accelerate.data_loader import skip_first_batches
from datasets import Dataset
from trainers import LENGTHS, losses_of, rows
from transformers import EarlyStoppingCallback, GPT2Config, GPT2LMHeadModel, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from recipes.common.checkpoints import atomic_folder
from recipes.common.runtime import signals
from recipes.common.runtime.errors import Refusal
from recipes.common.train import losses
from recipes.common.train.trainer import Trainer

pytest_plugins = ["trainers"]


def one_by_one(model, dataset):
    """The scores of each row, run through the model alone."""
    model.eval()
    with torch.inference_mode():
        return numpy.stack(
            [model(input_ids=torch.tensor([row["input_ids"]])).logits[0].numpy() for row in dataset]
        )


@pytest.mark.parametrize(
    ("strategy", "with_length"), [("random", True), ("random", False), ("group_by_length", True)]
)
def test_predictions_come_back_in_the_order_of_the_rows(
    strategy, with_length, trainer, model, tokenizer
):
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
    assert widths == [
        12,
        9,
        4,
    ]  # lengths with [CLS] and [SEP]: 12 11 10 9 | 9 8 7 6 5 (48 // 9) | 4 3 3


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
    assert trainer(dataset, per_device_eval_batch_size=10).evaluate()["eval_loss"] == pytest.approx(
        expected, abs=1e-5
    )


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
def test_accumulated_batches_have_the_loss_and_gradient_of_one_large_batch(
    batch, accumulation, trainer, tokenizer
):
    def first_log(batch, accumulation):
        flags = {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "max_steps": 1,
        }
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
    built = trainer(
        dataset, per_device_train_batch_size=2, gradient_accumulation_steps=4, max_steps=1
    )
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
    ("flags", "quick"),
    [({}, True), ({"torch_compile": True, "torch_compile_backend": "eager"}, False)],
)
def test_training_and_evaluation_take_the_quick_kernels_where_nothing_is_compiled(
    flags, quick, trainer, model
):
    torchs, seen = torch.nn.functional.dropout, {True: set(), False: set()}

    def look(module, inputs):
        seen[module.training].add(torch.nn.functional.dropout is not torchs)

    model.register_forward_pre_hook(look)
    built = trainer(max_steps=1, **flags)
    built.train()
    built.evaluate()
    assert seen == {True: {quick}, False: {quick}}


class Line(torch.nn.Module):
    """y = 2 a x + b, a plain module in which a stands twice; what it returns is chosen."""

    def __init__(self, returns="tuple", tied=True):
        super().__init__()
        self.a, self.b = (
            torch.nn.Parameter(torch.tensor(0.5)),
            torch.nn.Parameter(torch.tensor(1.0)),
        )
        self.also, self.returns = self.a if tied else torch.nn.Parameter(torch.tensor(0.5)), returns

    def forward(self, x, labels=None):
        y = x * (self.a + self.also) + self.b
        loss = [] if labels is None else [(y - labels).square().mean()]
        if self.returns == "tuple":
            return (*loss, y, -y)
        return {"answer": y} | ({"loss": loss[0]} if loss else {})


def line_trainer(folder, dataset=None, model=None, cls=Trainer, **options):
    """A Trainer of a Line on x = 0, 1, … 7 and y = 3 x, as a recipe of one's own makes it."""
    flags = {
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_steps": 1,
        "max_steps": 4,
        "learning_rate": 0.1,
    }
    flags |= {
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 3,
        "save_strategy": "no",
    }
    names = [name for name in options if name in TrainingArguments.__dataclass_fields__]
    flags |= {name: options.pop(name) for name in names}
    arguments = TrainingArguments(str(folder / "line"), **flags)
    dataset = line_rows() if dataset is None else dataset
    options = {"eval_dataset": dataset} | options
    if "model_init" not in options:
        options["model"] = Line() if model is None else model
    return cls(args=arguments, train_dataset=dataset, **options)


def line_rows(rows=8, slope=3.0):
    return Dataset.from_dict(
        {"x": [float(x) for x in range(rows)], "labels": [slope * x for x in range(rows)]}
    )


def weights_of(model):
    return {name: value.tolist() for name, value in model.state_dict().items()}


def test_a_plain_module_trains_saves_and_goes_on_as_if_it_had_not_stopped(tmp_path):
    whole = line_trainer(tmp_path, save_strategy="steps", save_steps=2)
    whole.train()
    whole.save_model()
    assert safetensors.torch.load_file(tmp_path / "line/model.safetensors").keys() >= {"a", "b"}
    shutil.rmtree(tmp_path / "line/checkpoint-4")
    resumed = line_trainer(tmp_path)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 4
    assert losses_of(resumed) == losses_of(whole) and len(losses_of(whole)) == 4
    assert weights_of(resumed.model) == weights_of(whole.model) != weights_of(Line())


def test_the_best_of_a_plain_module_is_loaded(tmp_path):
    flags = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "max_steps": 3,
    }
    flags |= {
        "learning_rate": 1.0,
        "lr_scheduler_type": "constant",
    }  # one step is right, the next ones go too far
    built = line_trainer(tmp_path, **flags, load_best_model_at_end=True)
    built.train()
    found = [log["eval_loss"] for log in built.state.log_history if "eval_loss" in log]
    assert found[-1] > min(found)
    assert built.evaluate()["eval_loss"] == pytest.approx(min(found))


def test_a_checkpoint_that_was_renamed_is_one_all_the_same(tmp_path):
    whole = line_trainer(tmp_path, save_strategy="steps", save_steps=2)
    whole.train()
    (tmp_path / "line/checkpoint-2").rename(tmp_path / "half_way")
    resumed = line_trainer(tmp_path)
    resumed.train(resume_from_checkpoint=tmp_path / "half_way")
    assert weights_of(resumed.model) == weights_of(whole.model)


def test_what_cannot_be_resumed_is_refused_in_words(tmp_path):
    def refused(named, words):
        with pytest.raises(Refusal, match=words):
            line_trainer(tmp_path).train(resume_from_checkpoint=named)

    refused(True, "No valid checkpoint found in output directory")
    refused(str(tmp_path / "line/checkpoint-7"), "Can't find a valid checkpoint at")
    theirs = {"cls": transformers.Trainer, "save_strategy": "steps", "save_steps": 2}
    line_trainer(tmp_path, model=Line("dict", tied=False), **theirs).train()
    refused(str(tmp_path / "line/checkpoint-2"), "plain Trainer's, whose states are pickles")
    refused(True, "No valid checkpoint found in output directory")
    line_trainer(tmp_path, save_strategy="steps", save_steps=3, save_only_model=True).train()
    refused(str(tmp_path / "line/checkpoint-3"), "a model alone")


def test_outputs_without_names_stay_as_plain_trainer_leaves_them(tmp_path):
    def metrics(pair):
        return {"sum": float(pair[0][0].sum()), "negative": float(pair[0][1].sum())}

    built = line_trainer(tmp_path, compute_metrics=metrics)
    first, second = built.predict(line_rows()).predictions
    assert first.tolist() == [1 + x for x in range(8)]
    assert second.tolist() == [-1 - x for x in range(8)]
    found = built.evaluate()
    assert (found["eval_sum"], found["eval_negative"]) == (36, -36)


def test_rows_without_labels_are_predicted_whatever_a_model_returns(tmp_path):
    unlabelled = line_rows().remove_columns("labels")
    output = line_trainer(tmp_path).predict(unlabelled)
    assert (output.predictions[0].tolist(), output.label_ids) == ([1 + x for x in range(8)], None)
    output = line_trainer(tmp_path, model=Line("dict")).predict(unlabelled)
    assert (output.predictions.tolist(), output.label_ids) == ([1 + x for x in range(8)], None)


def test_of_named_outputs_the_logits_alone_are_predictions(trainer, model, tokenizer):
    model.config.output_hidden_states = True
    dataset = rows(tokenizer)
    for columns in ([], ["labels"]):
        output = trainer(dataset).predict(dataset.remove_columns(columns))
        assert output.predictions.shape == (12, 2)


def test_several_data_sets_are_evaluated_by_their_names(tmp_path):
    several = {"near": line_rows(8), "far": line_rows(5, slope=9.0)}
    built = line_trainer(tmp_path, eval_dataset=several, learning_rate=0.0, eval_strategy="epoch")
    built.train()
    found = built.evaluate()
    logged = {
        name: value
        for log in built.state.log_history
        for name, value in log.items()
        if name in found
    }
    assert found["eval_near_samples_per_second"] and found["eval_far_samples_per_second"]
    means = {name: built.evaluate(rows)["eval_loss"] for name, rows in several.items()}
    assert means["near"] != means["far"]
    for name, mean in means.items():
        assert found[f"eval_{name}_loss"] == logged[f"eval_{name}_loss"] == pytest.approx(mean)
        assert built.evaluate(name)["eval_loss"] == pytest.approx(mean)
    assert built.predict(several["far"]).predictions[0].tolist() == [1, 2, 3, 4, 5]


def test_workers_that_are_kept_read_the_data_set_that_is_asked_for(tmp_path):
    flags = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    one, other = line_rows(8), line_rows(5)
    built = line_trainer(tmp_path, one, **flags)
    for dataset, number in ((None, 8), (other, 5), (one, 8), (None, 8)):
        loader = built.get_eval_dataloader(dataset)
        assert len(loader.dataset) == number
        assert built.get_eval_dataloader(dataset) is loader


def test_each_training_begins_with_the_model_that_model_init_makes(
    model, tokenizer, trainer, tmp_path
):
    built = line_trainer(tmp_path, model_init=lambda: Line())
    built.train()
    first = losses_of(built)
    built.train()
    assert losses_of(built) == first and len(first) == 4
    built.args.seed = 7
    built.train()
    assert losses_of(built) != first  # other rows in each step


def test_the_head_is_that_of_the_model_that_model_init_makes(tmp_path):
    torch.manual_seed(0)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 20, "n_positions": 8}
    dataset = Dataset.from_dict({"input_ids": [[1, 2, 3, 4]] * 4, "labels": [[1, 2, 3, 4]] * 4})
    build = partial(GPT2LMHeadModel, GPT2Config(**sizes, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))
    loss = losses.TokenLoss(shift=True)
    built = line_trainer(tmp_path, dataset, model_init=build, compute_loss_func=loss, max_steps=1)
    asked = []
    built.train()
    score, built.head.score = built.head.score, lambda *values: asked.append(1) or score(*values)
    built.evaluate()
    assert built.head.model is built.model and asked


def test_another_loader_s_batches_keep_all_their_labels(tmp_path):
    class Own(Trainer):
        def get_train_dataloader(self):
            return self.accelerator.prepare(
                torch.utils.data.DataLoader(self.train_dataset.with_format("torch"), 8)
            )

    # 8 rows in batches of 8, although the flags say 3: y = x + 1 for 3 x, errors 1 - 2x
    built = line_trainer(
        tmp_path, cls=Own, max_steps=1, per_device_train_batch_size=3, compute_loss_func=first_error
    )
    built.train()
    assert losses_of(built) == [pytest.approx(sum((1 - 2 * x) ** 2 for x in range(8)) / 8)]
    assert built.rows_of_step(0) == []  # nobody knows them


def first_error(outputs, labels, num_items_in_batch=None):
    """The summed squared error of a Line's first output, by the number of labels that count."""
    kept = labels != -100
    return (outputs[0] - labels)[kept].square().sum() / num_items_in_batch


def test_dropping_the_last_batch_drops_no_labels_of_the_one_before(tmp_path):
    flags = {
        "per_device_train_batch_size": 3,
        "max_steps": 2,
        "learning_rate": 0.0,
        "dataloader_drop_last": True,
    }
    built = line_trainer(tmp_path, line_rows(8, slope=1.0), **flags, compute_loss_func=first_error)
    built.train()
    assert (
        losses_of(built) == [pytest.approx(1.0)] * 2
    )  # y = x + 1 for x, in each of two whole batches


def test_another_loader_s_predictions_stay_in_its_order(trainer, model, tokenizer):
    dataset = rows(tokenizer)
    built = trainer(dataset)
    own = torch.utils.data.DataLoader(
        dataset.remove_columns("length"), 5, collate_fn=built.data_collator
    )
    built.get_test_dataloader = lambda rows: own
    assert numpy.allclose(built.predict(dataset).predictions, one_by_one(model, dataset), atol=1e-5)


def test_a_loader_of_two_passes_trains_in_another_order_each_epoch(tmp_path):
    class Twice(Trainer):
        def get_train_dataloader(self):
            one, other = super().get_train_dataloader(), super().get_train_dataloader()

            class Both:
                def __len__(self):
                    return len(one) + len(other)

                def __iter__(self):
                    for loader in (one, other):
                        yield from loader

            return Both()

    seen = []
    model = Line()
    model.register_forward_pre_hook(
        lambda module, inputs, named: seen.append(named["x"].tolist()), with_kwargs=True
    )
    line_trainer(tmp_path, model=model, cls=Twice, max_steps=8).train()
    first, second = sum(seen[:2], []), sum(seen[4:6], [])
    assert sorted(first) == sorted(second) == list(range(8)) and first != second


def test_another_training_set_is_trained_on_in_its_own_order(tmp_path):
    built = line_trainer(tmp_path, line_rows(20))
    built.train_dataset = line_rows(4)
    built.train()
    assert built.state.num_train_epochs == 4
    assert sorted(built.rows_of_step(3)) == [0, 1, 2, 3]


def test_a_second_training_saves_before_it_stops_as_the_first_did(tmp_path):
    built = line_trainer(tmp_path, save_strategy="steps", save_steps=4)
    built.train()
    shutil.rmtree(tmp_path / "line")

    class Stops(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **options):
            if state.global_step == 2:
                signals._received = signal.SIGTERM

    built.add_callback(Stops())
    try:
        with pytest.raises(signals.Stopped):
            built.train()
    finally:
        signals._received = None
    assert [path.name for path in (tmp_path / "line").iterdir()] == ["checkpoint-2"]
    assert not built.is_in_train  # what is evaluated now is all of the data, not a sample of it


def test_callbacks_of_one_s_own_stay_and_ours_can_be_taken_away(tmp_path):
    class Mine(ProgressCallback):
        pass

    built = line_trainer(tmp_path, disable_tqdm=False, callbacks=[Mine, EarlyStoppingCallback(1)])
    names = [type(one).__name__ for one in built.callback_handler.callbacks]
    assert {"Mine", "Progress", "EarlyStoppingCallback"} <= {
        *names
    } and "ProgressCallback" not in names
    built.remove_callback(Mine)
    built.remove_callback(ProgressCallback)
    assert not any(isinstance(one, ProgressCallback) for one in built.callback_handler.callbacks)


def test_a_callback_may_save_evaluate_and_stop(tmp_path):
    class Wants(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **options):
            control.should_save = control.should_evaluate = state.global_step == 1
            control.should_training_stop = state.global_step == 3

    built = line_trainer(tmp_path, callbacks=[Wants()])
    built.train()
    assert built.state.global_step == 3
    assert [log["step"] for log in built.state.log_history if "eval_loss" in log] == [1]
    assert [path.name for path in (tmp_path / "line").iterdir()] == ["checkpoint-1"]


def test_metrics_may_be_computed_batch_by_batch(trainer, tokenizer):
    seen = []

    def metrics(pair, compute_result):
        seen.append(len(pair.predictions))
        return {"rows": sum(seen)} if compute_result else {}

    dataset = rows(tokenizer)
    built = trainer(dataset, batch_eval_metrics=True)
    built.compute_metrics = partial(built.evaluation.score, metrics)
    assert built.evaluate()["eval_rows"] == 12 and len(seen) == 3


def test_metrics_get_what_they_ask_for_in_the_order_of_the_rows(trainer, tokenizer):
    dataset = rows(tokenizer, LENGTHS)
    asked = {}
    built = trainer(dataset, include_for_metrics=["inputs", "loss"])
    built.compute_metrics = partial(
        built.evaluation.score, lambda pair: asked.update(vars(pair)) or {}
    )
    built.evaluate()
    assert [[int(i) for i in row if i > 0] for row in asked["inputs"]] == dataset["input_ids"][:]
    assert len(asked["losses"])


def test_predictions_that_stay_in_batches_are_in_the_order_of_the_rows(trainer, model, tokenizer):
    dataset = rows(tokenizer)
    batches = trainer(dataset, eval_do_concat_batches=False).predict(dataset).predictions
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert numpy.allclose(numpy.concatenate(batches), one_by_one(model, dataset), atol=1e-5)


def test_labels_may_have_another_name(tmp_path):
    class Named(Line):
        def forward(self, x, wanted=None):
            return super().forward(x, wanted)

    dataset = line_rows().rename_column("labels", "wanted")
    options = {
        "label_names": ["wanted"],
        "compute_loss_func": lambda outputs, labels, **_: outputs[0],
    }
    built = line_trainer(tmp_path, dataset, Named(), **options)
    built.train()
    assert built.state.global_step == 4 and built.evaluate()["eval_loss"] < losses_of(built)[0]


def test_workers_are_begun_as_was_asked_for(tmp_path):
    flags = {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "spawn"}
    loader = line_trainer(tmp_path, **flags).get_train_dataloader()
    assert loader.multiprocessing_context.get_start_method() == "spawn"


def test_a_plain_module_cannot_compute_its_activations_again(tmp_path):
    with pytest.raises(Refusal, match="Line cannot compute its activations again"):
        line_trainer(tmp_path, gradient_checkpointing=True)


@pytest.mark.parametrize("metric", ["nope", "eval_nope"])
def test_a_schedule_that_waits_for_a_metric_nobody_computes_is_refused(metric, tmp_path):
    flags = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 1}
    with pytest.raises(Refusal, match="no metric '(eval_)?nope'"):
        line_trainer(tmp_path, **flags, metric_for_best_model=metric).train()


def test_the_trials_of_a_search_have_their_checkpoints_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.integrations.hp_params", vars)  # optuna need not be there
    built = line_trainer(tmp_path, model_init=lambda: Line(), save_strategy="steps", save_steps=4)
    built.hp_search_backend, built.hp_space = (
        "optuna",
        lambda trial: {"learning_rate": 0.1 * trial.number},
    )
    for number in (1, 2):
        built.train(trial=SimpleNamespace(number=number, params={}))
    assert built.args.learning_rate == 0.2
    assert {path.name for path in (tmp_path / "line").iterdir()} == {"run-1", "run-2"}
    assert all(
        atomic_folder.intact(folder) for folder in (tmp_path / "line").glob("run-*/checkpoint-4")
    )


@pytest.mark.parametrize("uses", [True, False])
def test_a_trainer_may_compute_by_torch_s_own_functions(trainer, uses):
    usual, found = torch.nn.functional.dropout, []

    class Look(transformers.TrainerCallback):
        def on_step_begin(self, *args, **options):
            found.append(torch.nn.functional.dropout is usual)

    built = trainer()
    built.uses_cpu_kernels = uses
    built.add_callback(Look())
    built.train()
    assert found == [not uses] * 2
