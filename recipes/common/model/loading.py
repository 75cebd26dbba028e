"""Loads the tokenizer and the model of a checkpoint, or makes new ones.

A new tokenizer is trained on the training text. A new model is built from a configuration.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from transformers import (
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import is_bitsandbytes_available

from recipes.common.config import engines
from recipes.common.config.flags import Arguments
from recipes.common.data.labels import MULTI, PER_WORD, REGRESSION, SINGLE, Labels
from recipes.common.data.splits import Splits
from recipes.common.model import (
    adapters,
    fast_layers,
    model_folders,
    probes,
    special_tokens,
    tokenizer_loading,
    trial,
    weights,
)
from recipes.common.model.configuring import (
    checkpoint_config,
    config_and_whether_own,
    from_hub,
    hub_options,
    model_type_of,
)
from recipes.common.model.tokenizer_training import fitting_size, train_tokenizer
from recipes.common.runtime import processes, upstream
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, warn

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, TrainingArguments

BATCH = 1000  # rows that are read at once
# The endings of the names of models that label a text, or each word of a text.
OF_TEXTS, OF_WORDS = "ForSequenceClassification", "ForTokenClassification"


class Texts:
    """All texts of the training data, row by row, for the training of a tokenizer.

    They can be read several times.
    """

    def __init__(self, splits: Splits):
        self.dataset = splits.train
        self.columns = [name for name in (*splits.texts, splits.target) if name]

    def __iter__(self) -> Iterator[str]:
        for rows in self.dataset.iter(BATCH):
            columns = [rows[name] for name in self.columns]
            for texts in zip(*columns, strict=True):
                yield from map(as_one_text, texts)


def as_one_text(text: str | list[str]) -> str:
    """Returns a text as it is, or its words with spaces between them."""
    return text if isinstance(text, str) else " ".join(text)


@processes.once_per_node
def load_tokenizer(arguments: Arguments, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """Returns the checkpoint's tokenizer; without a checkpoint, one that is trained on `texts`.

    `texts` are read only in the second case.
    """
    name = arguments.tokenizer_name or arguments.model_name_or_path
    if not name:
        return _new_tokenizer(arguments, texts)
    flag = "--tokenizer_name" if arguments.tokenizer_name else "--model_name_or_path"
    hub = hub_options(arguments)
    adapted = adapters.folder_of(name, flag, **hub)
    if adapted:
        name = adapters.tokenizer_of(adapted, flag)
    name = model_folders.named(name, flag)
    options = {"use_fast": arguments.use_fast_tokenizer, "named": arguments.special_tokens, **hub}
    tokenizer = tokenizer_loading.load(name, flag, arguments.trust_remote_code, **options)
    if tokenizer.pad_token is None:
        give_padding(tokenizer, flag)
        note(f"the tokenizer has no padding token: using {tokenizer.pad_token}")
    return tokenizer


def _new_tokenizer(arguments: Arguments, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    if arguments.special_tokens:
        what = "a tokenizer that is trained has its family's special tokens"
        fix = "leave it out, or name a tokenizer: --tokenizer_name NAME"
        raise Refusal(what, "--special_tokens", fix)
    size = arguments.vocab_size
    if not size:
        size = fitting_size(texts)
        note(f"--vocab_size {size} is chosen by the training text")
    return train_tokenizer(
        texts,
        arguments.tokenizer_algorithm,
        vocab_size=size,
        model_type=model_type_of(arguments),
        do_lower_case=arguments.do_lower_case,
    )


def give_padding(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Lets a tokenizer without a padding token pad with another special token.

    The mask of attention hides it.
    """
    others = (tokenizer.eos_token, tokenizer.unk_token, tokenizer.sep_token, tokenizer.bos_token)
    present = [token for token in others if token is not None]
    if not present:
        fix = f"say which it is: {tokenizer_loading.HINT}; or name another: --tokenizer_name"
        raise Refusal("the tokenizer has no token to pad with", where, fix)
    tokenizer.pad_token = present[0]


def load_model(
    auto_class: type, arguments: Arguments, tokenizer: PreTrainedTokenizerBase, **changes: Any
) -> "PreTrainedModel | PeftModel":
    """Returns a model of `auto_class`: from the checkpoint, or with random weights.

    It has adapters or a frozen encoder where the flags say so. A checkpoint may lack the head, for
    another task: `new_parts` names the parts that are new. A checkpoint whose body is not whole is
    refused. Weights are float32 unless --dtype says otherwise: from_pretrained's default keeps a
    checkpoint's half precision, in which Adam loses small updates.
    """
    config, own = config_and_whether_own(arguments, tokenizer, changes)
    name, flag = arguments.model_name_or_path, "--model_name_or_path"
    folder = adapters.folder_of(name, flag, **hub_options(arguments))
    if folder:
        adapted = _load_adapted(auto_class, folder, arguments, tokenizer, config)
        if not own:
            _take_over_generation(adapted)
        return adapted
    new = set()
    if name:
        model, new = _load_checkpoint(auto_class, arguments, config)
        if not own:
            _take_over_generation(model)
    else:
        model = _from_config(auto_class, config)
    _enlarge(model, tokenizer)
    fast_layers.replace(model)
    trial.try_out(model, auto_class, arguments)
    if arguments.lora_rank:
        return adapters.add(model, arguments, new)
    if arguments.freeze_encoder:
        _freeze(model)
    return model


def _freeze(model: "PreTrainedModel") -> None:
    """Freezes all weights but the head's; refuses a model whose head has no weights of its own."""
    model.base_model.requires_grad_(False)
    if not any(weight.requires_grad for weight in model.parameters()):
        what = f"nothing is left to train: {type(model).__name__} has no head beside its embeddings"
        fix = "leave it out; or train adapters: --lora_rank 8"
        raise Refusal(what, "--freeze_encoder", fix)


def _load_checkpoint(
    auto_class: type, arguments: Arguments, config: PretrainedConfig
) -> tuple["PreTrainedModel", set[str]]:
    """Returns the checkpoint's model, and the names of its new weights."""
    name, flag = arguments.model_name_or_path, "--model_name_or_path"
    options = _options(auto_class, arguments, config)
    options["ignore_mismatched_sizes"] = arguments.ignore_mismatched_sizes
    model, new = from_hub(auto_class, name, flag, arguments, load=weights.load, **options)
    if arguments.load_in_4bit:
        model = adapters.without_repacking(model)
    model.new_parts = weights.check(model, new, name, flag)
    return model, new


def _take_over_generation(model: "PreTrainedModel") -> None:
    """Lets a checkpoint end its texts with the tokens of a tokenizer that is not its own."""
    warn("the tokenizer is not the checkpoint's own: its embeddings were learned for other tokens")
    if model.can_generate():
        special_tokens.adopt_generation(model.generation_config, model.config)


def _load_adapted(
    auto_class: type,
    folder: Path,
    arguments: Arguments,
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
) -> "PeftModel":
    """Returns the base model with the adapters of a folder, which are trained further."""
    flag = "--model_name_or_path"
    if arguments.freeze_encoder:
        what = f"{folder} holds adapters, which freeze the encoder anyway"
        raise Refusal(what, "--freeze_encoder", "leave it out")
    options = _options(auto_class, arguments, config) | hub_options(arguments)
    trust = arguments.trust_remote_code
    model = adapters.load(auto_class, folder, flag, trust, trained=True, **options)
    rank = model.peft_config["default"].r
    if arguments.lora_rank not in (0, rank):
        what = f"{folder} holds adapters of rank {rank}, not {arguments.lora_rank}"
        fix = (
            "leave --lora_rank out: they are trained further;"
            " or name the model under them for new ones"
        )
        raise Refusal(what, "--lora_rank", fix)
    note(
        f"{folder} holds adapters of rank {rank}: the training continues with them,"
        " and the model under them stays as it is"
    )
    _enlarge(model, tokenizer)
    fast_layers.replace(model)
    trial.try_out(model.get_base_model(), auto_class, arguments)
    return model


def _options(auto_class: type, arguments: Arguments, config: PretrainedConfig) -> dict[str, Any]:
    """Returns the options of from_pretrained for a model."""
    dtype = arguments.dtype
    if dtype != "auto":
        dtype = getattr(torch, dtype)
    options = {"config": config, "dtype": dtype}
    if arguments.load_in_4bit:
        options["quantization_config"] = _in_4_bit(auto_class, config)
    return options


def _enlarge(model: "PreTrainedModel | PeftModel", tokenizer: PreTrainedTokenizerBase) -> None:
    """Adds embeddings where the tokenizer has more tokens than the model."""
    known = probes.vocabulary_size(model)
    if known and len(tokenizer) > known:
        model.resize_token_embeddings(len(tokenizer))
        note(f"the embeddings were enlarged to the tokenizer's {len(tokenizer)} tokens")


def _in_4_bit(auto_class: type, config: PretrainedConfig) -> BitsAndBytesConfig:
    """Returns QLoRA's configuration for frozen weights (Dettmers et al. 2023).

    It is 4-bit NormalFloat, whose constants are quantized again. Heads stay whole: a classifier's
    head is new, and is trained beside the adapters.
    """
    if not is_bitsandbytes_available():
        fix = "pip install bitsandbytes==0.50.2"
        raise Refusal("bitsandbytes is not installed", "--load_in_4bit", fix)
    if not torch.accelerator.is_available():
        note("no GPU: weights of four bits save memory here, but no time")
    with torch.device("meta"):
        heads = weights.heads(auto_class.from_config(config))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
        llm_int8_skip_modules=heads,
    )


def _from_config(auto_class: type, config: PretrainedConfig) -> "PreTrainedModel":
    if type(config) not in upstream.architectures(auto_class):
        what = f"{config.model_type} has no model for this task ({auto_class.__name__})"
        raise Refusal(what, "--model_type", "choose another architecture, or another recipe")
    try:
        with engines.whole_model():
            return auto_class.from_config(config)
    except Exception as error:  # each architecture checks in its own way, or not at all
        if isinstance(error, torch.OutOfMemoryError):
            raise
        what = f"{config.model_type} cannot be built this way"
        raise trial.misfit(config, what, error, "--model_type and --config_overrides") from None


def parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Returns the number of all parameters, and of those that are trained."""
    total = trained = 0
    for value in model.parameters():
        # Of a parameter that ZeRO-3 shards, this process may hold nothing.
        size = getattr(value, "ds_numel", value.numel())
        total += size
        if value.requires_grad:
            trained += size
    return total, trained


def max_length(
    wanted: int, tokenizer: PreTrainedTokenizerBase, model: torch.nn.Module, answer: bool = False
) -> int:
    """Returns `wanted`, or fewer tokens where the tokenizer or the model's positions end earlier.

    With `answer`, the positions of the target text count.
    """
    positions = probes.positions(model)[answer]
    possible = int(min(wanted, tokenizer.model_max_length, positions))
    if possible < wanted:
        note(f"texts are cut to {possible} tokens, not {wanted}: the model has no more positions")
    return possible


@torch.inference_mode()
def check_isolation(model: "PreTrainedModel", end: int) -> None:
    """Refuses a model that sees one packed document from another.

    Its second document must get the same logits as alone. Positions that start over tell
    transformers where a document starts, but not every architecture uses them.
    """
    first = torch.tensor([[5, 6, 7, end]])
    second = torch.tensor([[8, 6, 9, 5]])
    both = torch.cat([first, second], 1)
    positions = torch.arange(4).repeat(2)[None]
    was_training = model.training
    model.eval()
    try:
        alone = model(input_ids=second, use_cache=False).logits
        packed = model(input_ids=both, position_ids=positions, use_cache=False).logits[:, 4:]
        mixed = model(input_ids=both, use_cache=False).logits[:, 4:]
        isolated = (packed - alone).abs().max() < 0.01 * (mixed - alone).abs().max()
    except TypeError:  # it takes no position_ids
        isolated = False
    model.train(was_training)
    if not isolated:
        what = f"{model.config.model_type} does not keep packed documents apart"
        fix = (
            "leave the flag out, or choose another architecture:"
            " gpt2 and llama keep documents apart"
        )
        raise Refusal(what, "--packing_isolation", fix)


class PositionFlags(Protocol):
    """Holds the flags that decide how many positions a model gets."""

    max_source_length: int
    resize_position_embeddings: bool | None


def resize_positions(model: "PreTrainedModel", arguments: PositionFlags) -> None:
    """Gives the model positions for --max_source_length tokens, where that is asked.

    Otherwise longer texts are cut.
    """
    length = arguments.max_source_length
    positions = probes.configured_positions(model.config)
    if not arguments.resize_position_embeddings or positions >= length:
        return
    try:
        model.resize_position_embeddings(length)
    except NotImplementedError:
        what = f"{model.config.model_type} cannot get more than its {positions} positions"
        fix = f"--max_source_length {positions}"
        raise Refusal(what, "--resize_position_embeddings", fix) from None


def trained_labels(
    arguments: Arguments, training_arguments: "TrainingArguments", head: str = OF_TEXTS
) -> Labels | None:
    """Returns the labels of a checkpoint with such a head: their ids are what it was trained on.

    A training that continues keeps these ids. Returns None without a checkpoint, for a checkpoint
    that is no classifier or names no class, and where its head is replaced by a new one.
    """
    name, flag = arguments.model_name_or_path, "--model_name_or_path"
    trains = training_arguments.do_train
    if not name or (trains and arguments.ignore_mismatched_sizes):
        return None
    config = checkpoint_config(name, flag, arguments)
    architecture = (config.architectures or [""])[0]
    is_classifier = architecture.endswith(head)
    if architecture and not is_classifier and not trains:
        what = f"nothing is trained, and {name} holds no classifier but a {architecture}"
        fix = (
            "name the folder of a trained classifier (a run's --output_dir),"
            " or train this one first"
        )
        raise Refusal(what, flag, fix)
    names = [config.id2label[number] for number in range(config.num_labels)]
    is_unnamed = names == [f"LABEL_{number}" for number in range(len(names))]
    if trains and (is_unnamed or not is_classifier):
        return None
    return _labels_of(config, names, head, trains)


def _labels_of(
    config: PretrainedConfig, names: list[str], head: str, trains: bool
) -> Labels | None:
    """Returns the labels of a classifier with these names of its outputs.

    Returns None for ratings that are trained further: they have no ids to keep.
    """
    ids = {label: number for number, label in enumerate(names)}
    counts = [0] * len(names)
    if head == OF_WORDS:
        return Labels(PER_WORD, names, ids, counts, 0, 0.0, trains)
    if config.num_labels > 1 and config.problem_type != REGRESSION:
        kind = MULTI if config.problem_type == MULTI else SINGLE
        return Labels(kind, names, ids, counts, 0, 0.0, trains)
    if trains:
        return None
    columns = names if config.num_labels > 1 else []
    return Labels(REGRESSION, columns, {}, [], 0, 0.0)
