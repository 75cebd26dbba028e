"""Twelve rows, a tiny classifier and its Trainer."""

import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    TrainingArguments,
)
from transformers.utils import logging

from recipes.common.data.labels import SINGLE
from recipes.common.model.tokenizer_training import train_tokenizer
from recipes.common.train import losses
from recipes.common.train.trainer import Trainer

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
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    none = {
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.5,
    }
    return BertForSequenceClassification(
        BertConfig(vocab_size=len(tokenizer), num_labels=2, **sizes, **none)
    )


def rows(tokenizer, lengths=LENGTHS, with_length=True):
    """Returns tokenised rows, labelled 0, 1, 0, 1, …; `lengths` are their numbers of words."""
    encoded = tokenizer([" ".join(WORDS.split()[:length]) for length in lengths])
    columns = {**encoded, "labels": [row % 2 for row in range(len(lengths))]}
    return Dataset.from_dict(
        columns | ({"length": [length + 2 for length in lengths]} if with_length else {})
    )


@pytest.fixture
def trainer(model, tokenizer, tmp_path):
    """A Trainer on these rows; flags of TrainingArguments by name."""

    def build(dataset=None, validation=None, **flags):
        options = {
            "use_cpu": True,
            "disable_tqdm": True,
            "logging_steps": 1,
            "seed": 1,
            "max_steps": 2,
        }
        options |= {
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 4,
            "save_strategy": "no",
        }
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


def losses_of(built):
    """The losses that a run has logged."""
    return [log["loss"] for log in built.state.log_history if "loss" in log]
