"""Every number that may be set has a range, and what lies outside is refused before anything is read."""

import dataclasses
import math
import typing

import pytest
import transformers
from conftest import ROOT, load_recipe

from recipes.common.config import facts, parsing, ranges
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


KINDS = [transformers.Seq2SeqTrainingArguments]
KINDS += [load_recipe(recipe).Arguments for recipe in RECIPES]


def check(values):
    """Checks values of flags of any recipe."""
    ranges.check(values, facts.of(*KINDS))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__module__)
def test_every_number_has_a_range_and_its_default_lies_in_it(kind):
    known, names = facts.of(kind), set(numbers(kind))
    assert len(names) >= 15
    assert {name for name in names if known[name].range is None} == set()
    assert {name for name in known if known[name].range is not None} - names == set()
    fields = [field for field in dataclasses.fields(kind) if field.default is not None]
    ranges.check({field.name: field.default for field in fields}, known)


def test_the_facts_of_training_arguments_are_of_flags_that_exist():
    names = {field.name for field in dataclasses.fields(transformers.Seq2SeqTrainingArguments)}
    assert len(facts.OF_TRAINING_ARGUMENTS) > 60
    assert facts.OF_TRAINING_ARGUMENTS.keys() - names == set()


@pytest.mark.parametrize("name", WRONG)
def test_a_number_that_cannot_be_is_refused(name):
    for value in (*WRONG[name], math.nan, -math.inf, -(10**400)):
        with pytest.raises(Refusal, match=f"--{name} is"):
            check({name: value})


def test_a_number_is_refused_on_the_command_line_and_in_a_configuration(sentiment, in_tmp_path):
    (in_tmp_path / "mine.yaml").write_text("learning_rate: -1\n")
    for words in (["--learning_rate", "-1"], ["--config", "mine.yaml"]):
        with pytest.raises(Refusal, match="--learning_rate is -1") as caught:
            parsing.parse(sentiment.Arguments, str(ROOT / "recipes/sentiment/run.py"), words)
        assert caught.value.fix == "give a number from 0 to 100"


def test_what_means_unset_or_unbounded_is_taken():
    check({"max_steps": -1, "local_rank": -1, "max_grad_norm": math.inf})
