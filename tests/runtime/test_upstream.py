"""What other libraries keep private and we rely on: an upgrade that moves one of these names fails here, by name."""

import ast
import inspect

import pytest
import torch
import transformers
from conftest import ROOT

from recipes.common.runtime import upstream
from recipes.common.train.trainer import Trainer

pytest_plugins = ["trainers"]

# The private methods of transformers' Trainer that ours overrides -> their parameters.
OVERRIDDEN = {
    "_finalize_training": ["trial", "num_train_samples", "start_time"],
    "_get_dataloader": [
        "dataset",
        "description",
        "batch_size",
        "sampler_fn",
        "is_training",
        "dataloader_key",
    ],
    "_get_grad_norm": ["model", "grad_norm"],
    "_load_best_model": [],
    "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
    "_load_optimizer_and_scheduler": ["checkpoint"],
    "_run_epoch": [
        *(
            "model",
            "epoch",
            "train_dataloader",
            "steps_in_epoch",
            "num_update_steps_per_epoch",
            "trial",
        ),
        *("ignore_keys_for_eval", "start_time", "resume_from_checkpoint", "epochs_trained"),
        "steps_trained_in_current_epoch",
    ],
    "_save": ["output_dir", "state_dict"],
    "_save_checkpoint": ["model", "trial"],
}
# The private methods that `upstream` calls -> their parameters.
CALLED = {
    "_get_num_items_in_batch": ["batch_samples", "device"],
    "_get_output_dir": ["trial"],
    "_maybe_log_save_evaluate": [
        *(
            "tr_loss",
            "grad_norm",
            "model",
            "trial",
            "epoch",
            "ignore_keys_for_eval",
            "start_time",
            "learning_rate",
        )
    ],
    "_push_from_checkpoint": ["checkpoint_folder"],
    "_save_optimizer_and_scheduler": ["output_dir"],
    "_set_signature_columns_if_needed": [],
}


@pytest.mark.parametrize(("name", "parameters"), [*(OVERRIDDEN | CALLED).items()])
def test_a_private_method_of_trainer_takes_what_it_took(name, parameters):
    method = getattr(transformers.Trainer, name)
    assert [*inspect.signature(method).parameters] == ["self", *parameters]


def test_every_override_of_a_private_method_is_listed():
    own = {name for name, value in vars(Trainer).items() if inspect.isfunction(value)}
    private = {name for name in own if name.startswith("_") and not name.startswith("__")}
    assert private & {*dir(transformers.Trainer)} == {*OVERRIDDEN}


def test_at_most_sixteen_methods_of_trainer_are_overridden():
    own = {name for name, value in vars(Trainer).items() if inspect.isfunction(value)}
    assert len(own & {*dir(transformers.Trainer)} - {"__init__"}) <= 16


class SeenLabels(transformers.TrainerCallback):
    """What Trainer knows of its losses, at the end of each step before it logs."""

    def __init__(self):
        self.losses = []

    def on_step_end(self, args, state, control, **options):
        self.losses.append(
            upstream.progress_of_loss(self.trainer) | {"sum": upstream.loss_since_log(self.trainer)}
        )


def test_the_loss_since_the_last_log_is_where_it_was(trainer):
    built, seen = trainer(max_steps=4, logging_steps=2, learning_rate=0.0), SeenLabels()
    seen.trainer = built
    built.add_callback(seen)
    built.train()
    first, second, third, _ = seen.losses
    assert isinstance(first["sum"], torch.Tensor)
    assert 0 < first["loss"] < second["loss"] and third["loss"] < second["loss"]
    assert [found["logged_step"] for found in seen.losses] == [0, 0, 2, 2]
    assert first["total_loss"] == 0 < third["total_loss"]


def test_the_losses_of_a_run_that_continues_are_taken_up(trainer):
    built = trainer(max_steps=1)
    built.train()
    upstream.continue_losses(built, {"loss": 1.5, "total_loss": 6.0, "logged_step": 3})
    found = upstream.progress_of_loss(built)
    assert (found["total_loss"], found["logged_step"]) == (6.0, 3)


def test_columns_are_let_through_once(trainer):
    built = trainer()
    upstream.keep_columns(built, ["mine"])
    upstream.keep_columns(built, ["mine"])
    assert built._signature_columns.count("mine") == 1
    assert "input_ids" in built._signature_columns


def test_the_batch_size_and_the_folder_are_those_of_the_flags(trainer, tmp_path):
    built = trainer(per_device_train_batch_size=3)
    assert upstream.batch_size(built) == 3
    assert upstream.run_folder(built, None) == str(tmp_path / "out")


def test_every_function_of_upstream_is_used():
    names = [name for name, value in vars(upstream).items() if inspect.isfunction(value)]
    assert len(names) > 5
    texts = [path.read_text("utf-8") for path in ROOT.glob("recipes/common/**/*.py")]
    assert [name for name in names if not any(f"upstream.{name}(" in text for text in texts)] == []


def test_no_other_module_reads_a_private_name_of_a_trainer():
    for path in ROOT.glob("recipes/common/**/*.py"):
        if path.name == "upstream.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and not node.attr.startswith("__")
            ):
                assert ast.unparse(node.value).split(".")[-1] != "trainer", (path.name, node.attr)
