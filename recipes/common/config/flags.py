"""The flags that recipes share, as dataclasses; importing this module needs no torch."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from recipes.common.config.yaml_files import from_yaml
from recipes.common.runtime.secrets import SECRETS, without_passwords

if TYPE_CHECKING:
    from transformers import TrainingArguments

ROOT = Path(__file__).resolve().parents[3]
# What names the data, and what names the model.
DATA_FILES = ("train_file", "validation_file", "test_file")
DATA_KEYS = {*DATA_FILES, "task_name", "dataset_name", "dataset_config_name", "dataset_revision"}
DATA_KEYS |= {"source_lang", "target_lang"}
MODELS = {"model_name_or_path", "model_type", "config_name"}
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
        None,
        "Training data: files, globs or a folder (txt csv tsv json jsonl parquet arrow xlsx; also packed).",
    )
    validation_file: list[str] | None = setting(
        None, "Validation data; without it a part of the training data."
    )
    test_file: list[str] | None = setting(None, "Test data; labels may be missing.")
    encoding: str | None = setting(
        None, "Encoding of files that are not UTF-8 or UTF-16: gb18030, cp1252, …"
    )
    dataset_name: str | None = setting(
        None, "A data set on the Hugging Face Hub, or a local folder of one."
    )
    dataset_config_name: str | None = setting(None, "The configuration of that data set.")
    dataset_revision: str | None = setting(
        None, "The revision of that data set: branch, tag or commit."
    )
    train_split_name: str | None = setting(
        None, "The data set's split to train on (default: train)."
    )
    validation_split_name: str | None = setting(
        None, "The data set's split to validate on (default: validation)."
    )
    test_split_name: str | None = setting(None, "The data set's split to test on (default: test).")
    validation_split_percentage: int = setting(
        10, "Share of the training data held out where no validation is given."
    )
    remove_splits: str | None = setting(
        None, "Splits of the data set to leave out, separated by commas."
    )
    remove_columns: str | None = setting(None, "Columns to leave out, separated by commas.")
    max_train_samples: int | None = setting(
        None, "Use at most so many training rows (blocks, where texts are packed)."
    )
    max_eval_samples: int | None = setting(None, "Use at most so many validation rows (or blocks).")
    max_predict_samples: int | None = setting(None, "Use at most so many test rows (or blocks).")
    shuffle_train_dataset: bool = setting(
        False, "Shuffle the training rows before --max_train_samples takes the first."
    )
    shuffle_seed: int = setting(42, "Seed of that shuffle.")
    streaming: bool = setting(
        False, "Read the training data while training instead of holding it in memory."
    )
    preprocessing_num_workers: int | None = setting(
        None, "Processes that tokenise; packing takes all cores anyway."
    )
    overwrite_cache: bool = setting(
        False, "Download a Hub data set again instead of using the copy on disk."
    )


@dataclass
class ModelArguments:
    """Which model and tokenizer; names and meanings are those of Hugging Face's examples."""

    model_name_or_path: str | None = setting(None, "A checkpoint: a folder, or a name on the Hub.")
    model_type: str | None = setting(
        None, "Architecture of a model trained from scratch: bert, modernbert, …"
    )
    config_overrides: str | None = setting(
        None, "Changes to its configuration: hidden_size=128,num_hidden_layers=4"
    )
    config_name: str | None = setting(None, "A configuration, where it is not the checkpoint's.")
    tokenizer_name: str | None = setting(None, "A tokenizer, where it is not the checkpoint's.")
    tokenizer_algorithm: str | None = setting(
        None,
        "How to train one otherwise (default: as the model's family does: wordpiece for BERT's, else bpe).",
        choices=["wordpiece", "bpe", "unigram", "char"],
    )
    do_lower_case: bool = setting(False, "Lower-case the texts in a tokenizer that is trained.")
    special_tokens: list[str] | None = setting(
        None,
        "Which tokens of a tokenizer of one's own have a role: eos_token=<end> pad_token=<pad> …",
    )
    vocab_size: int | None = setting(
        None,
        "Vocabulary of a tokenizer that is trained (default: by the length of the training text).",
    )
    cache_dir: str | None = setting(None, "Where downloads from the Hub are kept.")
    use_fast_tokenizer: bool = setting(
        True, "Use the tokenizers library where it has the tokenizer."
    )
    model_revision: str = setting("main", "The checkpoint's revision: branch, tag or commit.")
    token: str | None = setting(
        None, "Access token for the Hub (default: the one `hf auth login` stored)."
    )
    trust_remote_code: bool = setting(
        False, "Run code that comes with a checkpoint. Read that code first."
    )
    ignore_mismatched_sizes: bool = setting(
        False, "Load a checkpoint whose head has another size, with a new head."
    )
    dtype: str = setting(
        "float32",
        "Weights in memory: float32 trains best, bf16 only multiplies.",
        choices=["auto", "bfloat16", "float16", "float32"],
    )
    lora_rank: int = setting(
        0, "Train low-rank adapters of this rank instead of all weights (0: all weights)."
    )
    lora_alpha: float | None = setting(None, "Scale of the adapters (default: twice the rank).")
    lora_dropout: float = setting(0.05, "Dropout of the adapters.")
    lora_target_modules: str = setting(
        "all-linear", "Modules that get adapters, separated by commas."
    )
    load_in_4bit: bool = setting(
        False, "Hold the weights under the adapters in four bits (QLoRA; bitsandbytes)."
    )
    freeze_encoder: bool = setting(False, "Train the head only.")


@dataclass
class RunArguments:
    """How the run goes, beside TrainingArguments."""

    early_stopping_patience: int = setting(
        0, "Stop after so many evaluations without a better score (0: never)."
    )
    num_processes: int | None = setting(None, "Refuse to run in another number of processes.")
    global_batch_size: int | None = setting(
        None, "Rows of a step over all processes; the accumulation follows."
    )
    pad_to_max_length: bool = setting(
        False, "Pad every row to the maximum instead of the batch's longest."
    )
    allow_changed: list[str] | None = setting(
        None, "What may differ from the run that goes on: flags, data, versions, …"
    )
    overwrite_output_dir: bool = setting(
        False, "Remove what an earlier run left in --output_dir and begin anew."
    )


@dataclass
class Arguments(DataArguments, ModelArguments, RunArguments):
    """What every recipe may set beside TrainingArguments."""


@dataclass
class PackingArguments:
    """What recipes share that pack texts into blocks."""

    prepared_dir: str | None = setting(
        None, "Keep the tokens in this folder, for every run on the same texts."
    )
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

    label_delimiter: str | None = setting(
        None, "What stands between several labels in a cell (none: one a cell)."
    )
    label_map: list[str] | None = setting(
        None, 'Labels by other names: "1,2=negative 4,5=positive" leaves 3 out.'
    )


@dataclass
class GenerationArguments(PaddingArguments):
    """What translation and summarization share; names and meanings are those of Hugging Face's examples."""

    training_arguments: ClassVar[str] = "Seq2SeqTrainingArguments"

    max_source_length: int = setting(1024, "Cut source texts to so many tokens.")
    max_target_length: int = setting(128, "Cut target texts to so many tokens.")
    val_max_target_length: int | None = setting(
        None, "Write at most so many tokens (default: bounded by the data)."
    )
    interim_eval_samples: int = setting(
        1000, "Write answers to so many rows of an evaluation in training (0: to all)."
    )
    num_beams: int | None = setting(
        None, "Beams of the search that writes the answers (default: the checkpoint's)."
    )
    ignore_pad_token_for_loss: bool = setting(True, "Leave padding out of the loss.")
    source_prefix: str | None = setting(
        None, "Text before every source text (default: what the model family needs)."
    )
    forced_bos_token: str | None = setting(
        None, "Token that every answer begins with (default: the target language)."
    )


def words(names: str | None) -> list[str]:
    """The names that are separated by commas."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def own_flags(arguments_class: type) -> list[str]:
    """The flags that a recipe itself defines, beside those that recipes share."""
    classes = [
        one for one in arguments_class.__mro__ if one.__module__ not in (__name__, "builtins")
    ]
    named = {name for one in classes for name in vars(one).get("__annotations__", {})}
    return [item.name for item in dataclasses.fields(arguments_class) if item.name in named]


def to_dict(
    arguments: Any, training_arguments: "TrainingArguments", recipe: str | None = None
) -> dict[str, Any]:
    """Every resolved flag with a plain value, no secrets: `--config` reads it back to the same arguments.

    Flags without a value are left out, but for those that the recipe's config.yaml would set instead.
    """
    training = training_arguments.to_dict()
    names = {item.name for item in dataclasses.fields(training_arguments) if item.init}
    merged = dataclasses.asdict(arguments) | {
        name: value for name, value in training.items() if name in names
    }
    unset = (
        "resume_from_checkpoint",
        "local_rank",
        "gradient_checkpointing",
        "gradient_checkpointing_kwargs",
    )
    machine = () if training_arguments.use_cpu is False else ("use_cpu",)
    left_out = {
        *SECRETS,
        *unset,
        *machine,
        "overwrite_output_dir",
        "allow_changed",
        "accelerator_config",
    }
    path = Path(recipe or "").with_name("config.yaml") if recipe else None
    configured = from_yaml(path) if path and path.exists() else {}
    kept = {key: without_passwords(value) for key, value in merged.items() if key not in left_out}
    return {
        key: value
        for key, value in kept.items()
        if value not in (None, [], {}) or key in configured
    }
