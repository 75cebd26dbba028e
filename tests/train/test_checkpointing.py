"""A run that may be stopped: whole checkpoints, the best one, and the same numbers after going on."""

import json
import os
import shutil
import signal

import pytest
import safetensors.torch
import torch
import transformers
from trainers import losses_of
from transformers import TrainingArguments

from recipes.common.checkpoints import atomic_folder, retention, tensor_files
from recipes.common.runtime import signals
from recipes.common.runtime.errors import Refusal

pytest_plugins = ["trainers"]


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
    assert all(atomic_folder.intact(tmp_path / "out" / name) for name in folders)
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
    built = trainer(
        **flags,
        load_best_model_at_end=True,
        greater_is_better=False,
        max_steps=4,
        learning_rate=0.5,
    )
    built.train()
    scores = {
        log["step"]: log["eval_loss"] for log in built.state.log_history if "eval_loss" in log
    }
    best = min(scores, key=scores.get)
    assert built.state.best_model_checkpoint == str(tmp_path / f"out/checkpoint-{best}")
    assert (tmp_path / f"out/checkpoint-{best}").is_dir()
    assert built.evaluate()["eval_loss"] == pytest.approx(scores[best], abs=1e-5)


def test_the_best_model_is_one_that_was_saved_where_fewer_are_saved_than_evaluated(
    trainer, tmp_path
):
    flags = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 3,
        "max_steps": 7,
    }
    flags |= {"load_best_model_at_end": True, "greater_is_better": False, "learning_rate": 1.0}
    built = trainer(**flags)
    built.train()
    scores = {
        log["step"]: log["eval_loss"] for log in built.state.log_history if "eval_loss" in log
    }
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
        assert state["best_model_checkpoint"] == str(
            tmp_path / f"out/checkpoint-{state['best_global_step']}"
        )


def test_a_run_that_goes_on_from_a_checkpoint_ends_as_if_it_had_never_stopped(
    trainer, model, tokenizer, tmp_path
):
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
        content = tensor_files.read(path)
        change(content)
        tensor_files.write(content, path)


def without(path, name):
    """Writes the weights again without one of them."""
    weights = safetensors.torch.load_file(path)
    weights.pop(name)
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})


PLACE = {"loss": 0.0, "total_loss": 0.0, "logged_step": 0, "seconds": 1.0, "pending": None}


UNREADABLE = {  # the file of a checkpoint, what is done to it, words of the refusal
    "weights of no kind": (
        "model.safetensors",
        lambda path: path.write_bytes(b"x" * 99),
        "SafetensorError",
    ),
    "a weight less": (
        "model.safetensors",
        lambda path: without(path, "classifier.weight"),
        "classifier.weight",
    ),
    "no state": ("trainer_state.json", lambda path: path.write_text("[]"), "TypeError"),
    "a state of another step": ("trainer_state.json", {"global_step": 1}, "global_step is 1"),
    "a step in words": ("trainer_state.json", {"max_steps": "4"}, "max_steps is a str"),
    "a log without steps": ("trainer_state.json", {"log_history": [{"loss": 1.0}]}, "step"),
    "a log in words": (
        "trainer_state.json",
        {"log_history": [{"step": 1, "loss": "x"}]},
        "no number",
    ),
    "no control": ("trainer_state.json", {"stateful_callbacks": {}}, "TrainerControl"),
    "no optimizer": (
        "optimizer.safetensors",
        lambda path: path.write_bytes(b""),
        "header too small",
    ),
    "an optimizer's nothing": ("optimizer.safetensors", {"param_groups": []}, "param_groups"),
    "a schedule in words": (
        "scheduler.safetensors",
        {"last_epoch": "x"},
        "last_epoch is a str, not a int",
    ),
    "no random state": ("process_0.safetensors", {"random": {}}, "python"),
    "no place": ("process_0.safetensors", {"place": {"loss": 0.0}}, "total_loss"),
    "a place in words": (
        "process_0.safetensors",
        {"place": PLACE | {"loss": "x"}},
        "loss is a str, not a int",
    ),
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
        trainer(save_strategy="steps", save_steps=2, max_steps=4).train(
            resume_from_checkpoint=str(checkpoint)
        )
    assert "the checkpoint cannot be read" in refusal.value.what and words in refusal.value.what
    assert (refusal.value.where, refusal.value.fix.partition(":")[0]) == (
        str(checkpoint),
        f"remove {checkpoint}",
    )


def test_a_best_checkpoint_that_was_damaged_since_is_not_the_final_model(trainer, tmp_path):
    class Damage(transformers.TrainerCallback):
        def on_save(self, args, state, control, **options):
            if state.global_step == 4:
                best = tmp_path / f"out/checkpoint-{state.best_global_step}/model.safetensors"
                best.write_bytes(best.read_bytes()[:-1] + b"x")

    flags = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "max_steps": 4,
    }
    built = trainer(**flags, load_best_model_at_end=True)
    built.add_callback(Damage)
    with pytest.raises(
        Refusal, match=r"the best checkpoint is damaged: model\.safetensors has another content"
    ):
        built.train()


class StopAtStep(transformers.TrainerCallback):
    """Sends SIGTERM after a step has been logged, before it is evaluated."""

    def __init__(self, step):
        self.step = step

    def on_log(self, args, state, control, **options):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_stopped_in_an_evaluation_before_a_save_goes_on_with_the_same_dropout(
    trainer, model, tmp_path
):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    start = {name: value.clone() for name, value in model.state_dict().items()}
    both = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "max_steps": 6,
    }
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


@pytest.mark.parametrize("save_steps", [1, 3])
def test_a_run_that_saves_models_alone_goes_on_where_a_signal_stopped_it(
    save_steps, trainer, model, tmp_path
):
    """It promised to, and its checkpoint held nothing to go on from."""
    flags = {
        "save_strategy": "steps",
        "save_steps": save_steps,
        "save_only_model": True,
        "max_steps": 4,
    }
    start = {name: value.clone() for name, value in model.state_dict().items()}
    whole = trainer(**flags)
    whole.train()
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    assert retention.no_states(tmp_path / "out/checkpoint-3")
    shutil.rmtree(tmp_path / "out")
    model.load_state_dict(start)
    stopped = trainer(**flags)
    stopped.add_callback(StopAtStep(2))
    signals.listen()
    try:
        with pytest.raises(signals.Stopped, match="SIGTERM"):
            stopped.train()
    finally:
        signals.leave()
    assert retention.newest(tmp_path / "out") == tmp_path / "out/checkpoint-2"
    resumed = trainer(**flags)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-2"))
    assert losses_of(resumed) == losses_of(whole)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_a_run_stopped_while_it_saves_goes_on_from_the_checkpoint_before(
    trainer, tmp_path, monkeypatch
):
    built = trainer(save_strategy="steps", save_steps=1)

    def fail_at_the_second(staged, final, publish=atomic_folder.publish):
        if final.name == "checkpoint-2":
            raise KeyboardInterrupt
        publish(staged, final)

    monkeypatch.setattr(atomic_folder, "publish", fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        built.train()
    assert retention.newest(tmp_path / "out") == tmp_path / "out/checkpoint-1"
    monkeypatch.undo()
    built.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-1"))
    assert retention.newest(tmp_path / "out") == tmp_path / "out/checkpoint-2"
    assert not list((tmp_path / "out").glob(".saving-*"))


def test_a_best_model_by_an_unknown_metric_is_refused_with_the_nearest(trainer):
    strategies = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    flags = {"load_best_model_at_end": True, "metric_for_best_model": "los", **strategies}
    with pytest.raises(Refusal, match="no metric 'los'") as caught:
        trainer(**flags).train()
    assert caught.value.fix == "did you mean loss?"


def test_every_process_draws_other_random_numbers(trainer, monkeypatch):
    monkeypatch.setattr(transformers.Trainer, "train", lambda *_, **__: torch.rand(1).item())
    drawn = set()
    for rank in range(3):
        monkeypatch.setattr(TrainingArguments, "process_index", rank)
        drawn.add(trainer().train())
    assert len(drawn) == 3
