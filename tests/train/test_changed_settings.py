"""A run that goes on with other settings than its checkpoint's trains with them from the next step on."""

import json
from pathlib import Path

import pytest
import transformers
from conftest import ROOT
from test_processes import torchrun

from recipes.common.train import changed_settings

pytest_plugins = ["trainers"]

FLAGS = {
    "learning_rate": 1e-3,
    "max_steps": 6,
    "save_strategy": "steps",
    "save_steps": 2,
    "max_grad_norm": 1e9,
}
FLAGS |= {"optim": "adamw_torch"}


class Groups(transformers.TrainerCallback):
    """What the optimizer's groups hold when a step begins, by the steps before it."""

    def __init__(self):
        self.found = {}

    def on_step_begin(self, args, state, control, optimizer=None, **options):
        groups = [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ]
        self.found[state.global_step] = groups[0]


@pytest.fixture
def gone_on(trainer, tmp_path):
    """What the optimizer holds in each step of a run that goes on after its second one with other flags."""

    def build(changed, **first):
        before = FLAGS | first
        trainer(**before).train()
        built, groups = trainer(**before | changed), Groups()
        built.add_callback(groups)
        known = {name: before.get(name) for name in changed}
        built.train(str(tmp_path / "out/checkpoint-2"), changed=known)
        return groups.found

    return build


# The flags that change, and the learning rate of the third and of the fourth step, after 2 and 3 of 6.
RATES = {
    "a learning rate": ({"learning_rate": 6e-3}, 4e-3, 3e-3),
    "a schedule": ({"lr_scheduler_type": "constant"}, 1e-3, 1e-3),
    "a schedule that never ends": (
        {"lr_scheduler_type": "constant", "learning_rate": 2e-3},
        2e-3,
        2e-3,
    ),
    "more steps": ({"max_steps": 10}, 8e-4, 7e-4),
    "a warm-up": ({"warmup_steps": 4}, 5e-4, 7.5e-4),
    "nothing": ({}, 1e-3 * 4 / 6, 5e-4),
    "another implementation": ({"optim": "adamw_torch_fused"}, 1e-3 * 4 / 6, 5e-4),
    "another optimizer": ({"optim": "sgd"}, 1e-3 * 4 / 6, 5e-4),
}


@pytest.mark.parametrize("case", RATES)
def test_the_learning_rate_is_that_of_the_flags_from_the_next_step_on(case, gone_on):
    changed, third, fourth = RATES[case]
    found = gone_on(changed)
    assert [found[2]["lr"], found[3]["lr"]] == pytest.approx([third, fourth])


SETTINGS = {  # what changes, the key of the optimizer's groups, and its value
    "weight_decay": (0.1, "weight_decay", 0.1),
    "adam_beta1": (0.5, "betas", (0.5, 0.999)),
    "adam_beta2": (0.9, "betas", (0.9, 0.9)),
    "adam_epsilon": (1e-3, "eps", 1e-3),
}


@pytest.mark.parametrize("flag", SETTINGS)
def test_a_setting_of_the_optimizer_is_that_of_the_flags(flag, gone_on):
    value, key, expected = SETTINGS[flag]
    assert gone_on({flag: value})[2][key] == expected
    assert flag in changed_settings.SETTINGS


def test_a_schedule_that_follows_the_scores_goes_on_in_proportion(gone_on):
    """Two evaluations had brought the rate to a hundredth: of the new one it is a hundredth, too."""
    options = {
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "eval_strategy": "steps",
        "eval_steps": 1,
    }
    options |= {"lr_scheduler_kwargs": {"patience": 0, "factor": 0.1, "threshold": 10.0}}
    found = gone_on({"learning_rate": 5e-3}, **options)
    assert found[2]["lr"] == pytest.approx(5e-3 / 100)


def test_an_optimizer_of_another_kind_starts_over_and_says_so(gone_on, capsys):
    gone_on({"optim": "adafactor"})
    assert "the optimizer starts over: the states in" in capsys.readouterr().err


def test_another_implementation_keeps_the_states(gone_on, capsys):
    assert gone_on({"optim": "adamw_torch_fused"})[2]["fused"]
    assert "starts over" not in capsys.readouterr().err


SENTIMENT = str(ROOT / "recipes/sentiment/run.py")
RUN = (
    "--train_file train.csv --model_type bert --vocab_size 300 --bf16 false --logging_steps 1"
    " --lr_scheduler_type constant --eval_strategy no --save_strategy steps --save_steps 2"
    " --per_device_train_batch_size 4 --config_overrides"
    " hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32"
).split()
CHANGED = "--learning_rate 1e-2 --weight_decay 0.5 --adam_beta1 0.5 --max_steps 6".split()
CHANGED += "--allow_changed learning_rate weight_decay adam_beta1".split()
CHANGED += "--output_dir out --resume_from_checkpoint first/checkpoint-2".split()
ENGINES = {
    "zero2": ["--deepspeed", "zero2"],
    "zero3": ["--deepspeed", "zero3"],
    "fsdp2": ["--fsdp"],
}


def logged():
    """The learning rate and the loss of each step."""
    state = json.loads(Path("out/trainer_state.json").read_text("utf-8"))
    return [(log["learning_rate"], log["loss"]) for log in state["log_history"] if "loss" in log]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_trains_with_changed_settings_as_one_process_does(engine, sentiment, reviews):
    """DeepSpeed had the optimizer's old settings back: the note said that the rate had changed."""
    sentiment.main([*RUN, "--max_steps", "2", "--output_dir", "first"])
    sentiment.main([*RUN, *CHANGED])
    expected = logged()
    (reviews / "first").rename("first-alone")
    (reviews / "out").rename("out-alone")
    first = [*RUN, *ENGINES[engine], "--max_steps", "2", "--output_dir", "first"]
    for flags in (first, [*RUN, *ENGINES[engine], *CHANGED]):
        ended = torchrun(SENTIMENT, *flags, folder=reviews, processes=1)
        assert ended.returncode == 0, ended.stderr[-3000:]
    assert [rate for rate, _ in expected] == [5e-5] * 2 + [1e-2] * 4
    for found, one in zip(logged(), expected, strict=True):
        assert found == pytest.approx(one, abs=1e-6)
    other = "--max_steps 8 --optim adafactor --allow_changed optim --output_dir other".split()
    other += "--resume_from_checkpoint first/checkpoint-2".split()
    ended = torchrun(SENTIMENT, *RUN, *ENGINES[engine], *other, folder=reviews, processes=1)
    assert "cannot leave out the optimizer's states in first/checkpoint-2" in ended.stderr
