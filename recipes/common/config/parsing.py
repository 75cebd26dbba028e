"""Resolves flags: dataclass defaults < the recipe's config.yaml < --config FILE < command line.

Importing this module needs no torch. `parse` does, because TrainingArguments does.
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
from typing import TYPE_CHECKING, Any, NoReturn, cast

from recipes.common.config import defaults, engines, facts, precedence, ranges
from recipes.common.config.facts import Facts
from recipes.common.config.flags import DATA_FILES, ROOT, Arguments
from recipes.common.config.precedence import Values
from recipes.common.config.yaml_files import Placed, from_yaml
from recipes.common.runtime import environment
from recipes.common.runtime.disk_errors import disk_error
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import nearest
from recipes.common.runtime.secrets import SECRETS

if TYPE_CHECKING:
    from transformers import HfArgumentParser, TrainingArguments
    from transformers.hf_argparser import DataClassType

MODELS = {"model_name_or_path", "model_type", "config_name"}
# The names of flags in older versions of transformers and of its example scripts.
OLD_NAMES = {
    "eval_data_file": "validation_file",
    "evaluation_strategy": "eval_strategy",
    "no_cuda": "use_cpu",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "train_data_file": "train_file",
}
# Other words for the choices of --include_num_input_tokens_seen.
COUNTED = {"true": "all", "yes": "all", "1": "all", "false": "no", "0": "no"}
# The endings of the files that a run writes.
WRITTEN = (".json", ".jsonl", ".yaml", ".md", ".safetensors", ".txt", ".model", ".lock")
# What TrainingArguments raises if it refuses a value.
WRONG = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
)


def parse(
    arguments_class: type[Arguments], recipe: str, argv: list[str] | None = None
) -> tuple[Arguments, "TrainingArguments"]:
    """Returns the recipe's arguments and TrainingArguments, resolved from all layers.

    Refuses flags that are unknown, repeated, contradictory or outside their range.
    """
    import transformers

    environment.settle()
    training_name = getattr(arguments_class, "training_arguments", "TrainingArguments")
    training_class = getattr(transformers, training_name)
    if argv is None:
        argv = sys.argv[1:]
    parser = _parser((arguments_class, training_class), recipe)
    known = facts.of(arguments_class, training_class)
    values = _resolve(parser, Path(recipe), list(argv), known)
    _refuse_empty(values, known)
    ranges.check(values, known)
    defaults.actions(values)
    defaults.hardware(values)
    defaults.strategies(values)
    standard = _defaults((arguments_class, training_class))
    precedence.settle(values, standard)
    engines.choose(values)
    precedence.refuse(values, standard, known)
    _expand_paths(values, known)
    arguments = arguments_class(**_of_class(arguments_class, values))
    return arguments, _build_training_arguments(training_class, values)


def _parser(classes: tuple[type, ...], recipe: str) -> "HfArgumentParser":
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message: str) -> NoReturn:
            what = message.removeprefix("argument ")
            raise Refusal(what, "the command line", f"see python {recipe} --help")

        def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
            options.pop("facts", None)  # of the field: argparse does not know them
            return super().add_argument(*names, **options)

        def _get_option_tuples(self, option_string: str) -> list:
            """Returns the flags that an abbreviation means, each once.

            Python 3.11 counts the other name of a flag as another flag.
            """
            by_flag = {}
            for found in super()._get_option_tuples(option_string):
                by_flag[id(found[0])] = found
            return list(by_flag.values())

    name = Path(recipe).resolve().parent.name
    parser = Parser(
        # transformers declares a type of its own, which no dataclass has.
        cast("tuple[DataClassType, ...]", classes),
        prog=f"python recipes/{name}/run.py",
        usage="%(prog)s [--config FILE] [FLAGS]",
        description=f"The recipe {name}. Its most used flags: python cli.py show {name}",
    )
    _set_types(parser)
    parser.add_argument(
        "--config",
        action="append",
        metavar="FILE",
        help="A YAML or JSON file of flags; repeatable.",
    )
    return parser


def _set_types(parser: argparse.ArgumentParser) -> None:
    """Sets how to read the flags that have several types: argparse knows only one type."""
    for action in parser._actions:
        if action.dest == "include_num_input_tokens_seen":
            action.type = _counted_tokens
            action.const = "all"
            action.nargs = "?"
            action.choices = ["all", "non_padding", "no"]
        if action.dest == "liger_kernel_config":
            action.type = json.loads
        if action.dest == "generation_config":
            action.type = str
        if action.dest == "report_to":
            action.nargs = "+"


def _counted_tokens(word: str) -> str:
    return COUNTED.get(word.lower(), word)


def _resolve(
    parser: "HfArgumentParser", recipe: Path, argv: list[str], known: dict[str, Facts]
) -> Values:
    """Returns the flags that some layer sets, with their types. The highest layer wins."""
    if len(argv) == 1 and argv[0].endswith((".json", ".yaml")):
        argv = ["--config", argv[0]]
    if "-h" in argv or "--help" in argv:
        parser.parse_args(["--help"])
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    from_command_line = _parse_command_line(parser, argv)
    recipes_config = recipe.with_name("config.yaml")
    from_recipe = {}
    if recipes_config.exists():
        from_recipe = _parse_config(parser, recipes_config)
    files = from_command_line.pop("config", [])
    from_files = [_parse_config(parser, Path(file)) for file in files]
    from_user = [*from_files, from_command_line]
    data_sets = facts.data_sets(known)
    own_data = {"train_file", *data_sets}
    from_recipe = _fitting(from_recipe, from_user, known, own_data)
    names = [_seen_from_here(recipes_config.resolve()), *files, "the command line"]
    values = Values(names, data_sets)
    # If a layer sets one of these flags, it removes the flags of the group from the layers below.
    # The user's own data must not be evaluated on the sample's test set.
    groups = {"data": own_data, "model": MODELS}
    for number, layer in enumerate([from_recipe, *from_user]):
        for group, triggers in groups.items():
            if _sets_any(layer, triggers):
                values.remove(name for name, one in known.items() if one.group == group)
        values.add(number, layer)
    values.remove([name for name, value in values.items() if value is None])
    return values


def _sets_any(layer: dict[str, Any], names: set[str]) -> bool:
    return any(layer.get(name) is not None for name in names)


def _fitting(
    from_recipe: dict[str, Any],
    from_user: list[dict[str, Any]],
    known: dict[str, Facts],
    names_of_data: set[str],
) -> dict[str, Any]:
    """Returns the recipe's settings that also fit the user's model and data."""
    own_model = any(_sets_any(layer, MODELS) for layer in from_user)
    own_data = any(_sets_any(layer, names_of_data) for layer in from_user)
    fitting = {}
    for name, value in from_recipe.items():
        of_other_model = own_model and known[name].of_model
        of_other_data = own_data and known[name].of_sample
        if not of_other_model and not of_other_data:
            fitting[name] = value
    return fitting


def _seen_from_here(path: Path) -> str:
    """Returns the path relative to the current folder if it lies below, else the path itself."""
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return str(path)


def _parse_command_line(parser: "HfArgumentParser", argv: list[str]) -> dict[str, Any]:
    namespace, unknown = parser.parse_known_args(argv, _Once())
    if unknown:
        fix = f"see {parser.prog} --help"
        close = _similar(unknown[0].lstrip("-").partition("=")[0], _names(parser))
        if close:
            fix = f"did you mean --{close}?"
        raise Refusal(f"unknown argument {unknown[0]}", "the command line", fix)
    return vars(namespace)


class _Once(argparse.Namespace):
    """Refuses a second, different value of a flag, however the flag is spelt."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "config" and hasattr(self, name) and getattr(self, name) != value:
            what = f"--{name} is given twice"
            if name not in SECRETS:
                what += f": {_as_typed(getattr(self, name))} and {_as_typed(value)}"
            raise Refusal(what, "the command line", "keep one of the two")
        super().__setattr__(name, value)


def _as_typed(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)


def _names(parser: "HfArgumentParser") -> set[str]:
    return {action.dest for action in parser._actions}


def _similar(name: str, known: set[str]) -> str:
    """Returns the flag that a wrong name means; an empty string if there is none."""
    if OLD_NAMES.get(name) in known:
        return OLD_NAMES[name]
    return nearest(name, known)


def _parse_config(parser: "HfArgumentParser", path: Path) -> dict[str, Any]:
    """Returns a configuration's flags with argparse's types.

    `2e-5` is a float, `"false"` is False, and null unsets a flag.
    """
    known = _names(parser)
    values: dict[str, Any] = {}
    for name, placed in from_yaml(path).items():
        if name not in known or name in ("help", "config"):
            close = _similar(name, known)
            fix = f"did you mean {close}?" if close else f"see {parser.prog} --help"
            raise Refusal(f"unknown key {name}", placed.where, fix)
        values[name] = _typed(parser, name, placed)
    if path.resolve().is_relative_to(ROOT / "recipes"):
        for name in DATA_FILES:
            if values.get(name):
                values[name] = list(map(_anchored, values[name]))
    return values


def _typed(parser: "HfArgumentParser", name: str, placed: Placed) -> Any:
    """Returns a value of a configuration as its flag's type.

    First tries the value as it is written, then YAML's value: no flag takes `on` or 0x1F.
    """
    if placed.value is None:
        return None
    items = placed.value
    if not isinstance(items, list):
        items = [items]
    words = list(map(_as_word, items))
    if not words and not _takes_several(parser, name):
        what = f"{name} takes one value, not an empty list"
        raise Refusal(what, placed.where, "write one value, or null to unset it")
    if placed.words is not None and list(placed.words) != words:
        with suppress(Refusal):
            return _parsed(parser, name, list(placed.words), placed.where)
    return _parsed(parser, name, words, placed.where)


def _as_word(item: object) -> str:
    if isinstance(item, dict):
        return json.dumps(item)
    return str(item)


def _takes_several(parser: "HfArgumentParser", name: str) -> bool:
    return any(action.dest == name and action.nargs in ("+", "*") for action in parser._actions)


def _parsed(parser: "HfArgumentParser", name: str, words: list[str], where: str) -> Any:
    argv = []
    if len(words) == 1:
        argv = [f"--{name}={words[0]}"]
    elif words:
        argv = [f"--{name}", *words]
    try:
        namespace, unknown = parser.parse_known_args(argv)
    except Refusal as refusal:
        fix = f"write {name}: followed by a value of its type"
        raise Refusal(refusal.what, where, fix) from None
    if unknown:
        shown = shlex.join(words)
        if name in SECRETS:
            shown = "several"
        raise Refusal(f"{name} takes one value, not {shown}", where, "write one value")
    return vars(namespace).get(name)


def _anchored(pattern: str) -> str:
    """Returns a path of a recipe's own configuration, seen from the current folder.

    So it names the same files wherever the recipe is started.
    """
    return _seen_from_here(ROOT / pattern)


def _refuse_empty(values: dict[str, Any], known: dict[str, Facts]) -> None:
    """Refuses an empty value: a shell makes it from a variable that is not set.

    Otherwise it would count as a flag that is not given.
    """
    for flag, value in values.items():
        is_empty = value == "" or (isinstance(value, list) and "" in value)
        if is_empty and not known[flag].may_be_empty:
            raise Refusal(f"--{flag} is empty", f"--{flag}", "give it a value, or leave it out")


def _check_folder(name: str) -> None:
    """Refuses a name that no folder can have, and a folder that a run cannot write to.

    It cannot if a file has the name of one of its folders, or a folder that of one of its files.
    """
    try:
        os.lstat(name)
        found = list(filter(_is_of_another_kind, Path(name).glob("*")))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except (OSError, ValueError) as error:
        if disk_error(error):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        what = f"no folder can have the name {name!r:.100}: {reason}"
        raise Refusal(what, "--output_dir", "name another") from None
    if found:
        what = f"{found[0]} is a file, where the run writes a folder"
        if found[0].is_dir():
            what = f"{found[0]} is a folder, where the run writes a file"
        raise Refusal(what, "--output_dir", "move it away, or choose another --output_dir")


def _is_of_another_kind(path: Path) -> bool:
    """Whether this is a folder where a run writes a file, or a file where it writes a folder."""
    if path.is_dir():
        return path.suffix in WRITTEN
    return path.name in ("plots", "config") or bool(re.fullmatch(r"checkpoint-\d+", path.name))


def _defaults(classes: tuple[type, ...]) -> dict[str, Any]:
    values = {}
    for one in classes:
        for item in dataclasses.fields(one):
            values[item.name] = item.default
    return values


def _expand_paths(values: dict[str, Any], known: dict[str, Facts]) -> None:
    for name, value in values.items():
        if value and known[name].is_path:
            values[name] = os.path.expanduser(value)


def _of_class(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of the flags that this dataclass has."""
    names = {item.name for item in dataclasses.fields(kind) if item.init}
    return {name: value for name, value in values.items() if name in names}


def _build_training_arguments(training_class: type, values: dict[str, Any]) -> "TrainingArguments":
    if not values.get("output_dir"):
        fix = "say where the run may write: --output_dir outputs/my_run"
        raise Refusal("no output folder", "--output_dir", fix)
    _check_folder(values["output_dir"])
    try:
        return training_class(**_of_class(training_class, values))
    except WRONG as error:
        if disk_error(error):
            raise
        what = " ".join(str(error).split())
        raise Refusal(what, _flag_in(what, values), "change or leave out this flag") from None


def _flag_in(text: str, values: dict[str, Any]) -> str:
    for name in values:
        if name in text:
            return f"--{name}"
    return "the arguments"
