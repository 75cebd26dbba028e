"""Every number that may be set has a range, and what lies outside is refused before anything is read."""

import dataclasses
import math
import typing

import pytest
import transformers
from conftest import ROOT, load_recipe

from recipes.common.config import parsing, ranges
from recipes.common.runtime.errors import Refusal

RECIPES = sorted(path.parent.name for path in ROOT.glob("recipes/*/run.py"))
# Numbers that mean nothing to any run, or more than any machine has.
WRONG = {
    "learning_rate": (-1, 1e6),
    "label_smoothing_factor": (-0.1, 1, 2),
    "vocab_size": (-1, 0, 1, 10**9),
    "seed": (-1, 2**32),
    "adam_beta1": (-0.1, 1, 2),
    "adam_epsilon": (-1e-8,),
    "weight_decay": (-0.01,),
    "max_grad_norm": (-1,),
    "warmup_steps": (-3,),
    "num_train_epochs": (-1, 0),
    "max_steps": (0, -5),
    "logging_steps": (0, -1),
    "save_steps": (0, -1),
    "eval_steps": (0, -1),
    "save_total_limit": (0, -1),
    "eval_accumulation_steps": (0, -1),
    "neftune_noise_alpha": (-5,),
    "dataloader_num_workers": (-1, 10**6),
    "preprocessing_num_workers": (0, 10**6),
    "per_device_train_batch_size": (0, -1),
    "validation_split_percentage": (-5, 101),
    "lora_dropout": (-0.1, 1),
    "ddp_timeout": (-1, 0),
    "max_train_samples": (0, -1),
    "max_seq_length": (0, 1),
}


def numbers(*kinds):
    """The fields of these dataclasses that hold a number."""
    for kind in kinds:
        for name, hint in typing.get_type_hints(kind).items():
            field = getattr(kind, "__dataclass_fields__", {}).get(name)
            if field is not None and field.init and {int, float} & {hint, *typing.get_args(hint)}:
                yield name


def test_every_number_has_a_range():
    training = set(numbers(transformers.Seq2SeqTrainingArguments))
    own = {name for recipe in RECIPES for name in numbers(load_recipe(recipe).Arguments)}
    assert len(training) >= 28 and len(own) >= 20
    assert training - ranges.OF_TRAINING_ARGUMENTS.keys() == set()
    assert own - ranges.OF_RECIPES.keys() == set()


def test_every_range_is_of_a_number():
    training = {field.name for field in dataclasses.fields(transformers.Seq2SeqTrainingArguments)}
    own = {
        field.name
        for recipe in RECIPES
        for field in dataclasses.fields(load_recipe(recipe).Arguments)
    }
    assert ranges.RANGES.keys() - training - own == set()


def test_every_default_lies_in_its_range():
    kinds = [
        transformers.Seq2SeqTrainingArguments,
        *(load_recipe(recipe).Arguments for recipe in RECIPES),
    ]
    ranges.check(
        {
            f.name: f.default
            for kind in kinds
            for f in dataclasses.fields(kind)
            if f.default is not None
        }
    )


@pytest.mark.parametrize("name", WRONG)
def test_a_number_that_cannot_be_is_refused(name):
    for value in (*WRONG[name], math.nan, -math.inf, -(10**400)):
        with pytest.raises(Refusal, match=f"--{name} is"):
            ranges.check({name: value})


def test_a_number_is_refused_on_the_command_line_and_in_a_configuration(sentiment, in_tmp_path):
    (in_tmp_path / "mine.yaml").write_text("learning_rate: -1\n")
    for words in (["--learning_rate", "-1"], ["--config", "mine.yaml"]):
        with pytest.raises(Refusal, match="--learning_rate is -1") as caught:
            parsing.parse(sentiment.Arguments, str(ROOT / "recipes/sentiment/run.py"), words)
        assert caught.value.fix == "give a number from 0 to 100"


def test_what_means_unset_or_unbounded_is_taken():
    ranges.check({"max_steps": -1, "local_rank": -1, "max_grad_norm": math.inf})
