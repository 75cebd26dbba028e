"""Tests run without network, on tiny data and models that they make themselves."""

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = next(path for path in Path(__file__).resolve().parents if (path / "recipes/common").is_dir())
sys.path.insert(0, str(ROOT))
pytest.register_assert_rewrite(
    "trainers"
)  # fixtures for three modules, which import its functions as well
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

WORDS = "good bad warm cold nice poor great rude soup room film the was and".split()
TINY = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32,max_position_embeddings=64"
SCRATCH = [
    "--model_type",
    "bert",
    "--config_overrides",
    TINY,
    *"--vocab_size 300 --max_seq_length 32".split(),
]
SHORT = (
    "--max_steps 2 --per_device_train_batch_size 4 --logging_steps 1 --eval_strategy steps"
).split()
SHORT += ["--save_strategy", "steps", "--save_steps", "2", "--eval_steps", "2"]

# What every recipe leaves beside checkpoints.
LEFT = {
    *"README.md run.yaml run.json config.json model.safetensors tokenizer.json plots".split(),
    *"all_results.json train_results.json eval_results.json predict_results.json".split(),
    "predictions.jsonl",
}
WITHOUT_TEST = LEFT - {"predict_results.json"}  # where there is no test set


def merged(*words):
    """A command line of these words in which the last value of a repeated flag wins."""
    values = {}
    for word in words:
        if word.startswith("--"):
            current = values[word] = []
        else:
            current.append(word)
    return [word for flag, found in values.items() for word in (flag, *found)]


def config_of(arguments, tokenizer, **changes):
    """The configuration that a model of these flags gets."""
    from recipes.common.model.configuring import config_and_whether_own

    return config_and_whether_own(arguments, tokenizer, changes)[0]


def as_if_killed(folder, *kept):
    """Makes of a complete run's folder one that was killed when there were these checkpoints."""
    assert all((folder / name).is_dir() for name in kept)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(
        json.dumps(record | {"status": "unfinished"}), encoding="utf-8"
    )
    for path in folder.glob("checkpoint-*"):
        if path.name not in kept:
            shutil.rmtree(path)


def predictions(folder="out"):
    """The rows of a run's predictions.jsonl."""
    with open(f"{folder}/predictions.jsonl", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


@pytest.fixture(autouse=True)
def no_network(socket_disabled):
    """Makes every test that opens a socket fail."""


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    """The current folder is an empty one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def text(number, length):
    """A text of some of the words, another one for every number."""
    return " ".join(
        WORDS[(number * 7 + place * place) % len(WORDS)] for place in range(3 + number % length)
    )


def row(recipe, number):
    """A row of training data for a recipe."""
    if recipe == "translation":
        return {"translation": {"en": text(number, 9), "de": text(number, 9).upper()}}
    if recipe == "summarization":
        return {"document": text(number, 20), "summary": text(number, 4)}
    if recipe == "token_classification":
        words = text(number, 12).split()
        tags = ["B-THING" if word in ("soup", "room", "film") else "O" for word in words]
        return {"tokens": words, "ner_tags": tags}
    return {"text": text(number, 12), "label": ("negative", "positive")[number % 3 % 2]}


def load_recipe(name):
    """The module of recipes/NAME/run.py."""
    spec = importlib.util.spec_from_file_location(f"{name}_run", ROOT / "recipes" / name / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sentiment():
    """The sentiment recipe's module."""
    return load_recipe("sentiment")


@pytest.fixture
def texts(in_tmp_path):
    """text.txt and more.txt with 60 and 20 lines."""
    things, words = ["soup", "room", "film", "shop"], ["good", "cold", "warm", "bad", "fine"]
    for name, count in (("text", 60), ("more", 20)):
        lines = [
            f"the {things[n % 4]} number {n} was {words[n % 5]} and {words[n % 3]}"
            for n in range(count)
        ]
        (in_tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return in_tmp_path


@pytest.fixture
def reviews(in_tmp_path):
    """train.csv and test.csv with 40 and 8 short reviews, labelled negative and positive."""
    words = {
        "positive": ["good", "great", "fine", "warm"],
        "negative": ["bad", "poor", "cold", "rude"],
    }
    for name, rows in (("train", 40), ("test", 8)):
        lines = []
        for row in range(rows):
            label, thing = (
                ("positive", "negative")[row % 2],
                ("soup", "room", "film", "shop")[row // 2 % 4],
            )
            lines.append(f"the {thing} number {row} in {name} was {words[label][row % 4]},{label}")
        (in_tmp_path / f"{name}.csv").write_text(
            "text,label\n" + "\n".join(lines) + "\n", encoding="utf-8"
        )
    return in_tmp_path
