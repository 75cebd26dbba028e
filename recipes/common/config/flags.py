"""What may be set: dataclass defaults < the recipe's config.yaml < --config FILE < command line.

Reading this module, and a recipe's `Arguments`, needs no torch; `parse` does, because TrainingArguments does.
"""

import argparse
import dataclasses
import json
import os
import re
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from recipes.common.config import defaults, engines, precedence, ranges
from recipes.common.config.precedence import Values
from recipes.common.config.yaml_files import Placed, from_yaml
from recipes.common.runtime import environment
from recipes.common.runtime.disk_errors import disk_error
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import did_you_mean, nearest
from recipes.common.runtime.secrets import SECRETS, without_passwords

if TYPE_CHECKING:
    from transformers import HfArgumentParser, TrainingArguments

ROOT = Path(__file__).resolve().parents[3]
# What names the data, and what names the model: a layer that sets the first key of a group replaces the whole group of
# the layers below, so that nobody's data is evaluated on the sample's test set. TUNED is the schedule that the recipe's
# config.yaml has for its own model: no pretrained one is trained with a learning rate meant for random weights.
DATA_FILES = ("train_file", "validation_file", "test_file")
DATA_KEYS = {*DATA_FILES, "task_name", "dataset_name", "dataset_config_name", "dataset_revision"}
DATA_KEYS |= {"source_lang", "target_lang"}
MODELS = {"model_name_or_path", "model_type", "config_name"}
GROUPS = [
    ({"train_file", "dataset_name", "task_name"}, DATA_KEYS),
    (MODELS, MODELS | {"config_overrides", "tokenizer_name", "special_tokens"}),
]
# What fits the sample that a recipe's config.yaml names: somebody's own data decides about its own.
OWN_DATA = GROUPS[0][0]
FOR_THE_SAMPLE = {"do_lower_case", "vocab_size", "max_source_length", "max_target_length"}
TUNED = {
    *("tokenizer_algorithm", "do_lower_case", "vocab_size", "per_device_train_batch_size", "learning_rate"),
    *("block_size", "max_seq_length", "max_source_length", "max_target_length"),
    *("num_train_epochs", "max_steps", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm"),
    "mlm_probability",
}
COUNTED = {"true": "all", "yes": "all", "1": "all", "false": "no", "0": "no"}  # --include_num_input_tokens_seen

PATHS = ("dataset_name", "prepared_dir", "cache_dir")  # in which no shell replaces ~ behind = or in a configuration
MAY_BE_EMPTY = {"text_column_delimiter", "source_prefix", "debug", "fsdp"}

OPTIONAL = {"nargs": "?", "const": True}  # a yes-or-no flag whose default is neither


def setting(default: Any, help: str, **metadata: Any) -> Any:
    """A dataclass field with its help sentence; a list becomes a default factory."""
    metadata["help"] = help
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class DataArguments:
    """Where the rows come from; names and meanings are those of Hugging Face's examples."""

    train_file: list[str] | None = setting(
        None, "Training data: files, globs or a folder (txt csv tsv json jsonl parquet arrow xlsx; also packed)."
    )
    validation_file: list[str] | None = setting(None, "Validation data; without it a part of the training data.")
    test_file: list[str] | None = setting(None, "Test data; labels may be missing.")
    encoding: str | None = setting(None, "Encoding of files that are not UTF-8 or UTF-16: gb18030, cp1252, …")
    dataset_name: str | None = setting(None, "A data set on the Hugging Face Hub, or a local folder of one.")
    dataset_config_name: str | None = setting(None, "The configuration of that data set.")
    dataset_revision: str | None = setting(None, "The revision of that data set: branch, tag or commit.")
    train_split_name: str | None = setting(None, "The data set's split to train on (default: train).")
    validation_split_name: str | None = setting(None, "The data set's split to validate on (default: validation).")
    test_split_name: str | None = setting(None, "The data set's split to test on (default: test).")
    validation_split_percentage: int = setting(10, "Share of the training data held out where no validation is given.")
    remove_splits: str | None = setting(None, "Splits of the data set to leave out, separated by commas.")
    remove_columns: str | None = setting(None, "Columns to leave out, separated by commas.")
    max_train_samples: int | None = setting(None, "Use at most so many training rows (blocks, where texts are packed).")
    max_eval_samples: int | None = setting(None, "Use at most so many validation rows (or blocks).")
    max_predict_samples: int | None = setting(None, "Use at most so many test rows (or blocks).")
    shuffle_train_dataset: bool = setting(
        False, "Shuffle the training rows before --max_train_samples takes the first."
    )
    shuffle_seed: int = setting(42, "Seed of that shuffle.")
    streaming: bool = setting(False, "Read the training data while training instead of holding it in memory.")
    preprocessing_num_workers: int | None = setting(None, "Processes that tokenise; packing takes all cores anyway.")
    overwrite_cache: bool = setting(False, "Download a Hub data set again instead of using the copy on disk.")


@dataclass
class ModelArguments:
    """Which model and tokenizer; names and meanings are those of Hugging Face's examples."""

    model_name_or_path: str | None = setting(None, "A checkpoint: a folder, or a name on the Hub.")
    model_type: str | None = setting(None, "Architecture of a model trained from scratch: bert, modernbert, …")
    config_overrides: str | None = setting(None, "Changes to its configuration: hidden_size=128,num_hidden_layers=4")
    config_name: str | None = setting(None, "A configuration, where it is not the checkpoint's.")
    tokenizer_name: str | None = setting(None, "A tokenizer, where it is not the checkpoint's.")
    tokenizer_algorithm: str | None = setting(
        None,
        "How to train one otherwise (default: as the model's family does: wordpiece for BERT's, else bpe).",
        choices=["wordpiece", "bpe", "unigram", "char"],
    )
    do_lower_case: bool = setting(False, "Lower-case the texts in a tokenizer that is trained.")
    special_tokens: list[str] | None = setting(
        None, "Which tokens of a tokenizer of one's own have a role: eos_token=<end> pad_token=<pad> …"
    )
    vocab_size: int | None = setting(
        None, "Vocabulary of a tokenizer that is trained (default: by the length of the training text)."
    )
    cache_dir: str | None = setting(None, "Where downloads from the Hub are kept.")
    use_fast_tokenizer: bool = setting(True, "Use the tokenizers library where it has the tokenizer.")
    model_revision: str = setting("main", "The checkpoint's revision: branch, tag or commit.")
    token: str | None = setting(None, "Access token for the Hub (default: the one `hf auth login` stored).")
    trust_remote_code: bool = setting(False, "Run code that comes with a checkpoint. Read that code first.")
    ignore_mismatched_sizes: bool = setting(False, "Load a checkpoint whose head has another size, with a new head.")
    dtype: str = setting(
        "float32",
        "Weights in memory: float32 trains best, bf16 only multiplies.",
        choices=["auto", "bfloat16", "float16", "float32"],
    )
    lora_rank: int = setting(0, "Train low-rank adapters of this rank instead of all weights (0: all weights).")
    lora_alpha: float | None = setting(None, "Scale of the adapters (default: twice the rank).")
    lora_dropout: float = setting(0.05, "Dropout of the adapters.")
    lora_target_modules: str = setting("all-linear", "Modules that get adapters, separated by commas.")
    load_in_4bit: bool = setting(False, "Hold the weights under the adapters in four bits (QLoRA; bitsandbytes).")
    freeze_encoder: bool = setting(False, "Train the head only.")


@dataclass
class RunArguments:
    """How the run goes, beside TrainingArguments."""

    early_stopping_patience: int = setting(0, "Stop after so many evaluations without a better score (0: never).")
    num_processes: int | None = setting(None, "Refuse to run in another number of processes.")
    global_batch_size: int | None = setting(None, "Rows of a step over all processes; the accumulation follows.")
    pad_to_max_length: bool = setting(False, "Pad every row to the maximum instead of the batch's longest.")
    allow_changed: list[str] | None = setting(
        None, "What may differ from the run that goes on: flags, data, versions, …"
    )
    overwrite_output_dir: bool = setting(False, "Remove what an earlier run left in --output_dir and begin anew.")


@dataclass
class Arguments(DataArguments, ModelArguments, RunArguments):
    """What every recipe may set beside TrainingArguments."""


@dataclass
class PackingArguments:
    """What recipes share that pack texts into blocks."""

    prepared_dir: str | None = setting(None, "Keep the tokens in this folder, for every run on the same texts.")
    prepare_only: bool = setting(False, "Write them there, and stop before the training.")


@dataclass
class PaddingArguments:
    """What recipes share whose rows are padded to the longest of their batch."""

    tokens_per_batch: int | None = setting(
        None,
        "Batches of at most so many tokens of source or target, padding counted, instead of so many rows.",
    )


@dataclass
class LabelArguments:
    """How labels are written, where their column alone does not say it."""

    label_delimiter: str | None = setting(None, "What stands between several labels in a cell (none: one a cell).")
    label_map: list[str] | None = setting(None, 'Labels by other names: "1,2=negative 4,5=positive" leaves 3 out.')


@dataclass
class GenerationArguments(PaddingArguments):
    """What translation and summarization share; names and meanings are those of Hugging Face's examples."""

    training_arguments: ClassVar[str] = "Seq2SeqTrainingArguments"

    max_source_length: int = setting(1024, "Cut source texts to so many tokens.")
    max_target_length: int = setting(128, "Cut target texts to so many tokens.")
    val_max_target_length: int | None = setting(None, "Write at most so many tokens (default: bounded by the data).")
    interim_eval_samples: int = setting(1000, "Write answers to so many rows of an evaluation in training (0: to all).")
    num_beams: int | None = setting(None, "Beams of the search that writes the answers (default: the checkpoint's).")
    ignore_pad_token_for_loss: bool = setting(True, "Leave padding out of the loss.")
    source_prefix: str | None = setting(None, "Text before every source text (default: what the model family needs).")
    forced_bos_token: str | None = setting(None, "Token that every answer begins with (default: the target language).")


def words(names: str | None) -> list[str]:
    """The names that are separated by commas."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def parse(arguments_class: type, recipe: str, argv: list[str] | None = None) -> tuple[Any, "TrainingArguments"]:
    """The recipe's arguments and TrainingArguments, resolved from all layers; refuses what is unknown or repeated."""
    import transformers

    environment.settle()
    training_class = getattr(transformers, getattr(arguments_class, "training_arguments", "TrainingArguments"))
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


def own_flags(arguments_class: type) -> list[str]:
    """The flags that a recipe itself defines, beside those that recipes share."""
    classes = [one for one in arguments_class.__mro__ if one.__module__ not in (__name__, "builtins")]
    named = {name for one in classes for name in vars(one).get("__annotations__", {})}
    return [item.name for item in dataclasses.fields(arguments_class) if item.name in named]


def to_dict(arguments: Any, training_arguments: "TrainingArguments", recipe: str | None = None) -> dict[str, Any]:
    """Every resolved flag with a plain value, no secrets: `--config` reads it back to the same arguments.

    Flags without a value are left out, but for those that the recipe's config.yaml would set instead.
    """
    training = training_arguments.to_dict()
    names = {item.name for item in dataclasses.fields(training_arguments) if item.init}
    merged = dataclasses.asdict(arguments) | {name: value for name, value in training.items() if name in names}
    unset = ("resume_from_checkpoint", "local_rank", "gradient_checkpointing", "gradient_checkpointing_kwargs")
    machine = () if training_arguments.use_cpu is False else ("use_cpu",)
    left_out = {*SECRETS, *unset, *machine, "overwrite_output_dir", "allow_changed", "accelerator_config"}
    path = Path(recipe or "").with_name("config.yaml") if recipe else None
    configured = from_yaml(path) if path and path.exists() else {}
    kept = {key: without_passwords(value) for key, value in merged.items() if key not in left_out}
    return {key: value for key, value in kept.items() if value not in (None, [], {}) or key in configured}


def _parser(classes: tuple, recipe: str) -> "HfArgumentParser":
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message: str):
            raise Refusal(message.removeprefix("argument "), "the command line", f"see python {recipe} --help")

        def _get_option_tuples(self, option_string: str) -> list:
            """The flags that an abbreviation means, each once: Python 3.11 counts a flag's other name as another."""
            return list({id(found[0]): found for found in super()._get_option_tuples(option_string)}.values())

    name = Path(recipe).resolve().parent.name
    parser = Parser(classes, prog=f"python recipes/{name}/run.py", description=f"The recipe {name}.")
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
    parser.add_argument("--config", action="append", metavar="FILE", help="A YAML or JSON file of flags; repeatable.")
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
            raise Refusal(f"--{name} is given twice{values}", "the command line", "keep one of the two")
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
    if not words and not any(action.dest == key and action.nargs in ("+", "*") for action in parser._actions):
        raise Refusal(f"{key} takes one value, not an empty list", placed.where, "write one value, or null to unset it")
    if placed.words is not None and [*placed.words] != words:
        with suppress(Refusal):
            return _parsed(parser, key, [*placed.words], placed)
    return _parsed(parser, key, words, placed)


def _parsed(parser: "HfArgumentParser", key: str, words: list[str], placed: Placed) -> Any:
    argv = [f"--{key}={words[0]}"] if len(words) == 1 else [f"--{key}", *words]
    try:
        namespace, unknown = parser.parse_known_args(argv if words else [])
    except Refusal as refusal:
        raise Refusal(refusal.what, placed.where, f"write {key}: followed by a value of its type") from None
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
        raise Refusal(f"no folder can have the name {name!r:.100}: {reason}", "--output_dir", "name another") from None
    if found:
        kind, written = ("folder", "file") if found[0].is_dir() else ("file", "folder")
        what = f"{found[0]} is a {kind}, where the run writes a {written}"
        raise Refusal(what, "--output_dir", "move it away, or choose another --output_dir")


def _is_of_another_kind(path: Path) -> bool:
    if path.is_dir():
        return path.suffix in (".json", ".jsonl", ".yaml", ".md", ".safetensors", ".txt", ".model", ".lock")
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
        raise Refusal("no output folder", "--output_dir", "say where the run may write: --output_dir outputs/my_run")
    _check_folder(values["output_dir"])
    try:
        return training_class(**{key: value for key, value in values.items() if key in names})
    except (AttributeError, ImportError, LookupError, OSError, OverflowError, TypeError, ValueError) as error:
        if disk_error(error):
            raise
        flag = next((f"--{name}" for name in values if name in str(error)), "the arguments")
        raise Refusal(" ".join(str(error).split()), flag, "change or leave out this flag") from None
