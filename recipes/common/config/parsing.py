"""Flags -> values: dataclass defaults < the recipe's config.yaml < --config FILE < command line.

Importing this module needs no torch; `parse` does, because TrainingArguments does.
"""

import argparse
import dataclasses
import json
import os
import re
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes.common.config import defaults, engines, precedence, ranges
from recipes.common.config.flags import DATA_FILES, DATA_KEYS, MODELS, ROOT
from recipes.common.config.precedence import Values
from recipes.common.config.yaml_files import Placed, from_yaml
from recipes.common.runtime import environment
from recipes.common.runtime.disk_errors import disk_error
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean, nearest
from recipes.common.runtime.secrets import SECRETS

if TYPE_CHECKING:
    from transformers import HfArgumentParser, TrainingArguments

# A layer that sets the first key of a group replaces the whole group of the layers below, so that nobody's data is
# evaluated on the sample's test set.
GROUPS = [
    ({"train_file", "dataset_name", "task_name"}, DATA_KEYS),
    (MODELS, MODELS | {"config_overrides", "tokenizer_name", "special_tokens"}),
]
# What fits the sample that a recipe's config.yaml names: somebody's own data decides about its own.
OWN_DATA = GROUPS[0][0]
FOR_THE_SAMPLE = {"do_lower_case", "vocab_size", "max_source_length", "max_target_length"}
# The schedule that the recipe's config.yaml has for its own model: no pretrained model is trained with a learning rate
# that is meant for random weights.
TUNED = {
    *(
        "tokenizer_algorithm",
        "do_lower_case",
        "vocab_size",
        "per_device_train_batch_size",
        "learning_rate",
    ),
    *("block_size", "max_seq_length", "max_source_length", "max_target_length"),
    *(
        "num_train_epochs",
        "max_steps",
        "lr_scheduler_type",
        "warmup_steps",
        "weight_decay",
        "max_grad_norm",
    ),
    "mlm_probability",
}
COUNTED = {
    "true": "all",
    "yes": "all",
    "1": "all",
    "false": "no",
    "0": "no",
}  # --include_num_input_tokens_seen
PATHS = (
    "dataset_name",
    "prepared_dir",
    "cache_dir",
)  # in which no shell replaces ~ behind = or in a configuration
MAY_BE_EMPTY = {"text_column_delimiter", "source_prefix", "debug", "fsdp"}


def parse(
    arguments_class: type, recipe: str, argv: list[str] | None = None
) -> tuple[Any, "TrainingArguments"]:
    """The recipe's arguments and TrainingArguments, resolved from all layers; refuses what is unknown or repeated."""
    import transformers

    environment.settle()
    training_class = getattr(
        transformers, getattr(arguments_class, "training_arguments", "TrainingArguments")
    )
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _parser((arguments_class, training_class), recipe)
    values = _resolve(parser, Path(recipe), argv)
    _refuse_empty(values)
    ranges.check(values)
    defaults.actions(values)
    defaults.hardware(values)
    defaults.strategies(values)
    standard = _defaults((arguments_class, training_class))
    precedence.settle(values, standard)
    engines.choose(values)
    precedence.refuse(values, standard)
    return _build(arguments_class, values), _build_training_arguments(training_class, values)


def _parser(classes: tuple, recipe: str) -> "HfArgumentParser":
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message: str):
            raise Refusal(
                message.removeprefix("argument "), "the command line", f"see python {recipe} --help"
            )

        def _get_option_tuples(self, option_string: str) -> list:
            """The flags that an abbreviation means, each once: Python 3.11 counts a flag's other name as another."""
            return list(
                {
                    id(found[0]): found for found in super()._get_option_tuples(option_string)
                }.values()
            )

    name = Path(recipe).resolve().parent.name
    parser = Parser(
        classes, prog=f"python recipes/{name}/run.py", description=f"The recipe {name}."
    )
    for action in parser._actions:  # argparse takes one type, and these flags may be of several
        if action.dest == "include_num_input_tokens_seen":
            action.type, action.const = lambda word: COUNTED.get(word.lower(), word), "all"
            action.nargs, action.choices = "?", ["all", "non_padding", "no"]
        if action.dest == "liger_kernel_config":
            action.type = json.loads
        if action.dest == "generation_config":
            action.type = str
        if action.dest == "report_to":
            action.nargs = "+"
    parser.add_argument(
        "--config",
        action="append",
        metavar="FILE",
        help="A YAML or JSON file of flags; repeatable.",
    )
    return parser


def _resolve(parser: "HfArgumentParser", recipe: Path, argv: list[str]) -> Values:
    """The flags that some layer sets, typed, the highest layer winning; and which layer that was."""
    if len(argv) == 1 and argv[0].endswith((".json", ".yaml")):
        argv = ["--config", argv[0]]
    if {"-h", "--help"} & set(argv):
        parser.parse_args(["--help"])
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    given = _parse_command_line(parser, argv)
    own = recipe.with_name("config.yaml")
    configured = _parse_config(parser, own) if own.exists() else {}
    files = given.pop("config", [])
    named = [*(_parse_config(parser, Path(path)) for path in files), given]
    if any(layer.get(key) is not None for layer in named for key in MODELS):
        configured = {key: value for key, value in configured.items() if key not in TUNED}
    if any(layer.get(key) is not None for layer in named for key in OWN_DATA):
        configured = {key: value for key, value in configured.items() if key not in FOR_THE_SAMPLE}
    values = Values([_near(own), *files, "the command line"])
    for number, layer in enumerate([configured, *named]):
        for triggers, group in GROUPS:
            if any(layer.get(key) is not None for key in triggers):
                values.remove(group)
        values.add(number, layer)
    values.remove([key for key, value in values.items() if value is None])
    return values


def _near(path: Path) -> str:
    """The path as seen from here, where it lies below."""
    path, here = path.resolve(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _parse_command_line(parser: "HfArgumentParser", argv: list[str]) -> dict[str, Any]:
    namespace, unknown = parser.parse_known_args(argv, _Once())
    if unknown:
        close = nearest(unknown[0].lstrip("-").partition("=")[0], _names(parser))
        fix = f"did you mean --{close}?" if close else f"see {parser.prog} --help"
        raise Refusal(f"unknown argument {unknown[0]}", "the command line", fix)
    return vars(namespace)


class _Once(argparse.Namespace):
    """Holds one value a flag, however it was spelt."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "config" and hasattr(self, name) and getattr(self, name) != value:
            values = "" if name in SECRETS else f": {_said(getattr(self, name))} and {_said(value)}"
            raise Refusal(
                f"--{name} is given twice{values}", "the command line", "keep one of the two"
            )
        super().__setattr__(name, value)


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _names(parser: "HfArgumentParser") -> set[str]:
    return {action.dest for action in parser._actions}


def _parse_config(parser: "HfArgumentParser", path: Path) -> dict[str, Any]:
    """A configuration's flags through argparse's types: `2e-5` is a float, `"false"` is False, null unsets."""
    values: dict[str, Any] = {}
    for key, placed in from_yaml(path).items():
        if key not in _names(parser) or key in ("help", "config"):
            fix = did_you_mean(key, _names(parser), f"see {parser.prog} --help")
            raise Refusal(f"unknown key {key}", placed.where, fix)
        values[key] = None if placed.value is None else _typed(parser, key, placed)
    if path.resolve().is_relative_to(ROOT / "recipes"):
        values |= {key: _anchored(values[key]) for key in DATA_FILES if values.get(key)}
    return values


def _typed(parser: "HfArgumentParser", key: str, placed: Placed) -> Any:
    """The value as it is written, or else as YAML means it: `on` and 0x1F are no flag's words."""
    value = placed.value
    items = value if isinstance(value, list) else [value]
    words = [json.dumps(item) if isinstance(item, dict) else str(item) for item in items]
    if not words and not any(
        action.dest == key and action.nargs in ("+", "*") for action in parser._actions
    ):
        raise Refusal(
            f"{key} takes one value, not an empty list",
            placed.where,
            "write one value, or null to unset it",
        )
    if placed.words is not None and [*placed.words] != words:
        with suppress(Refusal):
            return _parsed(parser, key, [*placed.words], placed)
    return _parsed(parser, key, words, placed)


def _parsed(parser: "HfArgumentParser", key: str, words: list[str], placed: Placed) -> Any:
    argv = [f"--{key}={words[0]}"] if len(words) == 1 else [f"--{key}", *words]
    try:
        namespace, unknown = parser.parse_known_args(argv if words else [])
    except Refusal as refusal:
        raise Refusal(
            refusal.what, placed.where, f"write {key}: followed by a value of its type"
        ) from None
    if unknown:
        shown = "several" if key in SECRETS else shlex.join(words)
        raise Refusal(f"{key} takes one value, not {shown}", placed.where, "write one value")
    return vars(namespace).get(key)


def _anchored(patterns: list[str]) -> list[str]:
    """Paths in a recipe's own configuration are relative to the repository, wherever the recipe is started."""
    paths = [ROOT / pattern for pattern in patterns]
    here = Path.cwd()
    return [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in paths]


def _refuse_empty(values: dict[str, Any]) -> None:
    """Refuses an empty word, as a shell makes it of a variable that is not set: it would count as nothing said."""
    for flag, value in values.items():
        if flag not in MAY_BE_EMPTY and (value == "" or (isinstance(value, list) and "" in value)):
            raise Refusal(f"--{flag} is empty", f"--{flag}", "give it a value, or leave it out")


def _check_folder(name: str) -> None:
    """Refuses a name that no folder can have, and a folder in which something else has the name of what is written."""
    try:
        os.lstat(name)
        found = [path for path in Path(name).glob("*") if _is_of_another_kind(path)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except (OSError, ValueError) as error:
        if disk_error(error):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise Refusal(
            f"no folder can have the name {name!r:.100}: {reason}", "--output_dir", "name another"
        ) from None
    if found:
        kind, written = ("folder", "file") if found[0].is_dir() else ("file", "folder")
        what = f"{found[0]} is a {kind}, where the run writes a {written}"
        raise Refusal(what, "--output_dir", "move it away, or choose another --output_dir")


def _is_of_another_kind(path: Path) -> bool:
    if path.is_dir():
        return path.suffix in (
            ".json",
            ".jsonl",
            ".yaml",
            ".md",
            ".safetensors",
            ".txt",
            ".model",
            ".lock",
        )
    return path.name in ("plots", "config") or bool(re.fullmatch(r"checkpoint-\d+", path.name))


def _defaults(classes: tuple[type, ...]) -> dict[str, Any]:
    return {item.name: item.default for one in classes for item in dataclasses.fields(one)}


def _build(arguments_class: type, values: dict[str, Any]) -> Any:
    names = {item.name for item in dataclasses.fields(arguments_class)}
    values |= {key: os.path.expanduser(values[key]) for key in PATHS if values.get(key)}
    return arguments_class(**{key: value for key, value in values.items() if key in names})


def _build_training_arguments(training_class: type, values: dict[str, Any]) -> "TrainingArguments":
    names = {item.name for item in dataclasses.fields(training_class) if item.init}
    if not values.get("output_dir"):
        raise Refusal(
            "no output folder",
            "--output_dir",
            "say where the run may write: --output_dir outputs/my_run",
        )
    _check_folder(values["output_dir"])
    try:
        return training_class(**{key: value for key, value in values.items() if key in names})
    except (
        AttributeError,
        ImportError,
        LookupError,
        OSError,
        OverflowError,
        TypeError,
        ValueError,
    ) as error:
        if disk_error(error):
            raise
        flag = next((f"--{name}" for name in values if name in str(error)), "the arguments")
        raise Refusal(" ".join(str(error).split()), flag, "change or leave out this flag") from None
