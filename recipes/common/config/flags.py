"""Defines the flags that recipes share, as dataclasses. Importing this module needs no torch."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from recipes.common.config import facts
from recipes.common.config.facts import OF_DATA, OF_MODEL, Facts, setting
from recipes.common.config.yaml_files import Placed, from_yaml
from recipes.common.runtime.secrets import SECRETS, without_passwords

if TYPE_CHECKING:
    from transformers import TrainingArguments

ROOT = Path(__file__).resolve().parents[3]
DATA_FILES = ("train_file", "validation_file", "test_file")


@dataclass
class DataArguments:
    """Says where the rows come from. Names and meanings are those of Hugging Face's examples."""

    train_file: list[str] | None = setting(
        None,
        "Training data: files, globs or a folder "
        "(txt csv tsv json jsonl parquet arrow xlsx; also packed).",
        OF_DATA,
    )
    validation_file: list[str] | None = setting(
        None, "Validation data (default: a part of the training data).", OF_DATA
    )
    test_file: list[str] | None = setting(None, "Test data; labels may be missing.", OF_DATA)
    encoding: str | None = setting(
        None, "Encoding of files that are not UTF-8 or UTF-16: gb18030, cp1252, …"
    )
    dataset_name: str | None = setting(
        None,
        "A data set on the Hugging Face Hub, or in a local folder.",
        Facts(group="data", is_data_set=True, is_path=True),
    )
    dataset_config_name: str | None = setting(None, "Configuration of --dataset_name.", OF_DATA)
    dataset_revision: str | None = setting(
        None, "Revision of --dataset_name: branch, tag or commit.", OF_DATA
    )
    train_split_name: str | None = setting(
        None, "The data set's split to train on (default: train)."
    )
    validation_split_name: str | None = setting(
        None, "The data set's split to validate on (default: validation)."
    )
    test_split_name: str | None = setting(None, "The data set's split to test on (default: test).")
    validation_split_percentage: int = setting(
        10,
        "Percentage of the training data to hold out, where no validation data is given.",
        Facts(range=(0, 100)),
    )
    remove_splits: str | None = setting(
        None, "Splits of the data set to leave out, separated by commas."
    )
    remove_columns: str | None = setting(None, "Columns to leave out, separated by commas.")
    max_train_samples: int | None = setting(
        None,
        "Use at most this many training rows (blocks, where texts are packed).",
        Facts(range=facts.COUNT),
    )
    max_eval_samples: int | None = setting(
        None, "Use at most this many validation rows (or blocks).", Facts(range=facts.COUNT)
    )
    max_predict_samples: int | None = setting(
        None, "Use at most this many test rows (or blocks).", Facts(range=facts.COUNT)
    )
    shuffle_train_dataset: bool = setting(
        False, "Shuffle the training rows before --max_train_samples takes the first."
    )
    shuffle_seed: int = setting(42, "Seed of --shuffle_train_dataset.", Facts(range=facts.SEED))
    streaming: bool = setting(
        False, "Read the training data while training instead of holding it in memory."
    )
    preprocessing_num_workers: int | None = setting(
        None,
        "Processes that tokenise; packing takes all cores anyway.",
        Facts(range=(1, 512), is_free=True),
    )
    overwrite_cache: bool = setting(
        False, "Download a Hub data set again instead of using the copy on disk."
    )


@dataclass
class ModelArguments:
    """Chooses model and tokenizer. Names and meanings are those of Hugging Face's examples."""

    model_name_or_path: str | None = setting(
        None, "A checkpoint: a folder, or a name on the Hub.", OF_MODEL
    )
    model_type: str | None = setting(
        None, "Architecture of a model trained from scratch: bert, modernbert, …", OF_MODEL
    )
    config_overrides: str | None = setting(
        None, "Changes to the model's configuration: hidden_size=128,num_hidden_layers=4", OF_MODEL
    )
    config_name: str | None = setting(
        None, "Use this configuration instead of the checkpoint's.", OF_MODEL
    )
    tokenizer_name: str | None = setting(
        None, "Use this tokenizer instead of the checkpoint's.", OF_MODEL
    )
    tokenizer_algorithm: str | None = setting(
        None,
        "Algorithm to train a tokenizer with (default: wordpiece for BERT's family, else bpe).",
        Facts(of_model=True),
        choices=["wordpiece", "bpe", "unigram", "char"],
    )
    do_lower_case: bool = setting(
        False,
        "Lower-case the texts in a tokenizer that is trained.",
        Facts(of_model=True, of_sample=True),
    )
    special_tokens: list[str] | None = setting(
        None,
        "Special tokens of your own tokenizer: eos_token=<end> pad_token=<pad> …",
        OF_MODEL,
    )
    vocab_size: int | None = setting(
        None,
        "Vocabulary size of a tokenizer that is trained (default: by the length of the text).",
        Facts(range=facts.VOCABULARY, of_model=True, of_sample=True),
    )
    cache_dir: str | None = setting(
        None, "Where downloads from the Hub are kept.", Facts(is_path=True, is_free=True)
    )
    use_fast_tokenizer: bool = setting(
        True, "Use the tokenizers library where it has the tokenizer."
    )
    model_revision: str = setting("main", "The checkpoint's revision: branch, tag or commit.")
    token: str | None = setting(
        None,
        "Access token for the Hub (default: the one `hf auth login` stored).",
    )
    trust_remote_code: bool = setting(
        False, "Run code that comes with a checkpoint. Read that code first."
    )
    ignore_mismatched_sizes: bool = setting(
        False, "Load a checkpoint whose head has another size, with a new head."
    )
    dtype: str = setting(
        "float32",
        "Type of the weights in memory: float32 trains best (--bf16 only multiplies in bf16).",
        choices=["auto", "bfloat16", "float16", "float32"],
    )
    lora_rank: int = setting(
        0,
        "Train low-rank adapters of this rank instead of all weights (0: all weights).",
        Facts(range=(0, 65_536)),
    )
    lora_alpha: float | None = setting(
        None,
        "Scale of the adapters (default: twice the rank).",
        Facts(range=facts.POSITIVE, needs=("lora_rank",)),
    )
    lora_dropout: float = setting(
        0.05, "Dropout of the adapters.", Facts(range=facts.BELOW_ONE, needs=("lora_rank",))
    )
    lora_target_modules: str = setting(
        "all-linear", "Modules that get adapters, separated by commas.", Facts(needs=("lora_rank",))
    )
    load_in_4bit: bool = setting(
        False,
        "Keep the base model's weights in 4 bits (QLoRA; bitsandbytes).",
        Facts(needs=("lora_rank",)),
    )
    freeze_encoder: bool = setting(False, "Train the head only.")


@dataclass
class RunArguments:
    """Says how to run the training, beside TrainingArguments."""

    early_stopping_patience: int = setting(
        0,
        "Stop after this many evaluations without a better score (0: never).",
        Facts(range=facts.SOME),
    )
    num_processes: int | None = setting(
        None,
        "Refuse to run with another number of processes.",
        Facts(range=(1, 100_000), is_free=True),
    )
    global_batch_size: int | None = setting(
        None, "Rows per step over all processes; sets the accumulation.", Facts(range=facts.COUNT)
    )
    pad_to_max_length: bool = setting(
        False, "Pad every row to the maximum instead of the batch's longest."
    )
    allow_changed: list[str] | None = setting(
        None,
        "What may change when a run is continued: flags, data, versions, …",
        Facts(is_recorded=False),
    )
    overwrite_output_dir: bool = setting(
        False,
        "Remove what an earlier run left in --output_dir and start over.",
        Facts(is_recorded=False),
    )


@dataclass
class Arguments(DataArguments, ModelArguments, RunArguments):
    """Holds the flags of every recipe beside TrainingArguments."""


@dataclass
class PackingArguments:
    """Holds the flags of recipes that pack texts into blocks."""

    prepared_dir: str | None = setting(
        None,
        "Keep the tokens in this folder, for every run on the same texts.",
        Facts(is_path=True, is_free=True),
    )
    prepare_only: bool = setting(
        False,
        "Write the tokens to --prepared_dir, and stop before the training.",
        Facts(needs=("prepared_dir",)),
    )


@dataclass
class PaddingArguments:
    """Holds the flags of recipes that pad rows to the longest of their batch."""

    tokens_per_batch: int | None = setting(
        None,
        "Fill batches with at most this many tokens of source or target (padding counts), "
        "instead of a number of rows.",
        Facts(range=facts.COUNT),
    )


@dataclass
class LabelMapArguments:
    """Gives labels other names."""

    label_map: list[str] | None = setting(
        None, 'Other names of labels: "1,2=negative 4,5=positive" leaves 3 out.'
    )


@dataclass
class LabelArguments(LabelMapArguments):
    """Says how labels are written, where their column alone does not show it."""

    label_delimiter: str | None = setting(
        None, "Separator of several labels in one cell (default: one label per cell)."
    )


@dataclass
class WordArguments(LabelMapArguments, PaddingArguments):
    """Holds the flags of recipes that label words: those of Hugging Face's run_ner.py."""

    text_column_name: str | None = setting(None, "Column of the words (default: tokens).")
    label_column_name: str | None = setting(None, "Column of their labels (default: ner_tags).")
    task_name: str | None = setting(
        None, "Learn the column of this task's labels: ner, pos or chunk (ner_tags, …).", OF_DATA
    )
    label_all_tokens: bool = setting(
        False, "Label and score every piece of a word instead of its first one."
    )
    return_entity_level_metrics: bool = setting(
        False, "Has no effect: the scores of each type are always given."
    )

    def __post_init__(self) -> None:
        if self.task_name and not self.label_column_name:
            self.label_column_name = f"{self.task_name}_tags"


SEQUENCE = Facts(range=facts.COUNT, of_model=True, of_sample=True)


@dataclass
class GenerationArguments(PaddingArguments):
    """Holds the flags that translation and summarization share.

    Names and meanings are those of Hugging Face's examples.
    """

    training_arguments: ClassVar[str] = "Seq2SeqTrainingArguments"

    max_source_length: int = setting(1024, "Cut source texts to this many tokens.", SEQUENCE)
    max_target_length: int = setting(128, "Cut target texts to this many tokens.", SEQUENCE)
    val_max_target_length: int | None = setting(
        None,
        "Generate at most this many tokens (default: bounded by the data).",
        Facts(range=facts.COUNT),
    )
    interim_eval_samples: int = setting(
        1000,
        "Generate texts for this many rows of an evaluation during training (0: for all).",
        Facts(range=facts.SOME),
    )
    num_beams: int | None = setting(
        None,
        "Beams of the search that generates texts (default: the checkpoint's).",
        Facts(range=facts.BEAMS),
    )
    ignore_pad_token_for_loss: bool = setting(True, "Leave padding out of the loss.")
    source_prefix: str | None = setting(
        None,
        "Text before every source text (default: what the model family needs).",
        facts.MAY_BE_EMPTY,
    )
    forced_bos_token: str | None = setting(
        None, "First token of every generated text (default: the target language)."
    )


def comma_separated(names: str | None) -> list[str]:
    """Returns the names in a list that is separated by commas."""
    parts = map(str.strip, (names or "").split(","))
    return [part for part in parts if part]


def own_flags(arguments: Arguments) -> list[str]:
    """Returns the flags of a recipe beside those of all recipes.

    A yes or no that nobody has changed is left out.
    """
    shared = {item.name for item in dataclasses.fields(Arguments)}
    own = []
    for item in dataclasses.fields(arguments):
        value = getattr(arguments, item.name)
        is_usual = isinstance(value, bool) and value == item.default
        if item.name not in shared and not is_usual:
            own.append(item.name)
    return own


def to_dict(
    arguments: Arguments, training_arguments: "TrainingArguments", recipe: str | None = None
) -> dict[str, Any]:
    """Returns every resolved flag with a plain value, without secrets.

    `--config` reads the flags back to the same arguments. Flags without a value are left out,
    unless the recipe's config.yaml would set them instead.
    """
    known = facts.of(type(arguments), type(training_arguments))
    left_out = {name for name, known_facts in known.items() if not known_facts.is_recorded}
    left_out |= SECRETS
    if training_arguments.use_cpu is not False:  # it follows from the machine
        left_out.add("use_cpu")
    configured = _configured(recipe)
    recorded = {}
    for name, value in _all_values(arguments, training_arguments).items():
        is_unset = value in (None, [], {}) and name not in configured
        if name not in left_out and not is_unset:
            recorded[name] = without_passwords(value)
    return recorded


def _configured(recipe: str | None) -> dict[str, Placed]:
    if not recipe:
        return {}
    path = Path(recipe).with_name("config.yaml")
    if not path.exists():
        return {}
    return from_yaml(path)


def _all_values(arguments: Arguments, training_arguments: "TrainingArguments") -> dict[str, Any]:
    values = dataclasses.asdict(arguments)
    names = {item.name for item in dataclasses.fields(training_arguments) if item.init}
    for name, value in training_arguments.to_dict().items():
        if name in names:
            values[name] = value
    return values
