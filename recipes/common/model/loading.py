"""Tokenizer and model: from a checkpoint, or trained on the training text and built from a configuration."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import is_bitsandbytes_available

from recipes.common.config import engines
from recipes.common.config.flags import Arguments
from recipes.common.data.labels import MULTI, REGRESSION, SINGLE, Labels
from recipes.common.model import (
    adapters,
    config_overrides,
    fast_layers,
    model_folders,
    probes,
    special_tokens,
    tokenizer_loading,
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
from recipes.common.runtime import processes
from recipes.common.runtime.errors import Refusal
from recipes.common.runtime.messages import note, reason, warn

BATCH = 1000  # rows that are read at once
CLASSIFIES = "ForSequenceClassification"  # how the names of such models end


class Texts:
    """All texts of some columns, row by row, as often as they are asked for: what a tokenizer is trained on."""

    def __init__(self, dataset: Dataset | IterableDataset, columns: Sequence[str]):
        self.dataset, self.columns = dataset, columns

    def __iter__(self) -> Iterator[str]:
        for rows in self.dataset.iter(BATCH):
            for texts in zip(*(rows[column] for column in self.columns), strict=True):
                yield from texts


@processes.once_per_node
def load_tokenizer(arguments: Arguments, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer; without a checkpoint one that is trained on `texts`, which are read only then."""
    name = arguments.tokenizer_name or arguments.model_name_or_path
    if not name:
        if arguments.special_tokens:
            fix = "leave it out, or name a tokenizer: --tokenizer_name NAME"
            raise Refusal(
                "a tokenizer that is trained has its family's special tokens",
                "--special_tokens",
                fix,
            )
        size = arguments.vocab_size or fitting_size(texts)
        if not arguments.vocab_size:
            note(f"--vocab_size {size} is chosen by the training text")
        options = {"vocab_size": size, "do_lower_case": arguments.do_lower_case}
        return train_tokenizer(
            texts, arguments.tokenizer_algorithm, model_type=model_type_of(arguments), **options
        )
    flag = "--tokenizer_name" if arguments.tokenizer_name else "--model_name_or_path"
    if adapted := adapters.folder_of(name, flag, **hub_options(arguments)):
        name = adapters.tokenizer_of(adapted, flag)
    options = {
        "use_fast": arguments.use_fast_tokenizer,
        "named": arguments.special_tokens,
        **hub_options(arguments),
    }
    tokenizer = tokenizer_loading.load(
        model_folders.named(name, flag), flag, arguments.trust_remote_code, **options
    )
    if tokenizer.pad_token is None:
        give_padding(tokenizer, flag)
        note(f"the tokenizer has no padding token: using {tokenizer.pad_token}")
    return tokenizer


def give_padding(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """A tokenizer without a padding token pads with another special token: the mask of attention hides it."""
    others = (tokenizer.eos_token, tokenizer.unk_token, tokenizer.sep_token, tokenizer.bos_token)
    tokenizer.pad_token = next((token for token in others if token is not None), None)
    if tokenizer.pad_token is None:
        fix = f"say which it is: {tokenizer_loading.HINT}; or name another: --tokenizer_name"
        raise Refusal("the tokenizer has no token to pad with", where, fix)


def load_model(
    auto_class: Any, arguments: Arguments, tokenizer: PreTrainedTokenizerBase, **changes: Any
) -> torch.nn.Module:
    """A model of `auto_class`, from the checkpoint or with random weights, with LoRA or frozen as asked.

    Its `new_parts` are those that the checkpoint lacks: a head for another task; a body is refused that is not whole.
    In float32 unless --dtype says otherwise: from_pretrained's default keeps a checkpoint's half precision, in which
    Adam loses small updates.
    """
    config, own = config_and_whether_own(arguments, tokenizer, changes)
    if folder := adapters.folder_of(
        arguments.model_name_or_path, "--model_name_or_path", **hub_options(arguments)
    ):
        return _load_adapted(auto_class, folder, arguments, tokenizer, config)
    new: set[str] = set()
    if arguments.model_name_or_path:
        options = _options(auto_class, arguments, config)
        options["ignore_mismatched_sizes"] = arguments.ignore_mismatched_sizes
        name, flag = arguments.model_name_or_path, "--model_name_or_path"
        model, new = from_hub(auto_class, name, flag, arguments, load=weights.load, **options)
        model = adapters.without_repacking(model) if arguments.load_in_4bit else model
        model.new_parts = weights.check(model, new, name, flag)
        if not own:
            _take_over_generation(model)
    else:
        model = _from_config(auto_class, config)
    _enlarge(model, tokenizer)
    fast_layers.replace(model)
    _try_out(model, auto_class, arguments)
    if arguments.lora_rank:
        return adapters.add(model, arguments, new)
    if arguments.freeze_encoder:
        model.base_model.requires_grad_(False)
    return model


def _take_over_generation(model: torch.nn.Module) -> None:
    """Ends the generation of a checkpoint with another tokenizer's tokens than its own."""
    warn("the tokenizer is not the checkpoint's own: its embeddings were learned for other tokens")
    if model.can_generate():
        special_tokens.adopt_generation(model.generation_config, model.config)


def _try_out(model: torch.nn.Module, auto_class: Any, arguments: Arguments) -> None:
    """Refuses a model that cannot read a text or write one, and a causal one that sees the tokens that it is to
    predict: its perplexity would be near 1, and its texts would be worth nothing."""
    name = model.config.model_type
    where = "--model_name_or_path" if arguments.model_name_or_path else "--model_type"
    try:
        logits = probes.logits(model)
        if auto_class is not AutoModelForMaskedLM:
            probes.write(model)
    except Exception as error:  # each architecture raises its own
        where = "--config_overrides" if arguments.config_overrides else where
        raise _misfit(model.config, f"{name} cannot be computed this way", error, where) from None
    if auto_class is AutoModelForCausalLM and probes.sees_ahead(logits, model.dtype):
        fix = "choose an architecture that reads from left to right: gpt2, llama, qwen3, …; or pretrain a masked model"
        if not probes.a_decoder_sees_ahead(model):
            fix = f"--config_overrides is_decoder=true makes {name} read from left to right; or choose gpt2, llama, …"
        raise Refusal(f"{name} sees the tokens that it is to predict", where, fix)


def _misfit(config: PretrainedConfig, what: str, error: Exception, where: str) -> Refusal:
    """What is said where an architecture's sizes do not fit each other, with those that nobody has chosen."""
    left = config_overrides.fitting(config)
    fix = f"choose sizes that fit each other; now {left}" if left else "choose another architecture"
    return Refusal(f"{what}: {reason(error)}", where, fix)


def _load_adapted(
    auto_class: Any,
    folder: Path,
    arguments: Arguments,
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
) -> torch.nn.Module:
    """The model with the adapters of a folder, which are trained further."""
    flag = "--model_name_or_path"
    if arguments.freeze_encoder:
        raise Refusal(
            f"{folder} holds adapters, which freeze the encoder anyway",
            "--freeze_encoder",
            "leave it out",
        )
    options = _options(auto_class, arguments, config) | hub_options(arguments)
    model = adapters.load(
        auto_class, folder, flag, arguments.trust_remote_code, trained=True, **options
    )
    rank = model.peft_config["default"].r
    if arguments.lora_rank not in (0, rank):
        fix = "leave --lora_rank out: they are trained further; or name the model under them for new ones"
        raise Refusal(
            f"{folder} holds adapters of rank {rank}, not {arguments.lora_rank}", "--lora_rank", fix
        )
    note(
        f"{folder} holds adapters of rank {rank}: a training goes on with them, the model under them stays as it is"
    )
    _enlarge(model, tokenizer)
    fast_layers.replace(model)
    _try_out(model.get_base_model(), auto_class, arguments)
    return model


def _options(auto_class: Any, arguments: Arguments, config: PretrainedConfig) -> dict[str, Any]:
    """What from_pretrained is told beside the name."""
    dtype = arguments.dtype if arguments.dtype == "auto" else getattr(torch, arguments.dtype)
    four_bits = (
        {"quantization_config": _in_4_bit(auto_class, config)} if arguments.load_in_4bit else {}
    )
    return {"config": config, "dtype": dtype, **four_bits}


def _enlarge(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    if len(tokenizer) > (probes.words(model) or len(tokenizer)):
        model.resize_token_embeddings(len(tokenizer))
        note(f"the embeddings were enlarged to the tokenizer's {len(tokenizer)} tokens")


def _in_4_bit(auto_class: Any, config: PretrainedConfig) -> BitsAndBytesConfig:
    """QLoRA's way to hold frozen weights: 4-bit NormalFloat, its constants quantized again (Dettmers et al. 2023).

    Heads stay whole: a classifier's is new, and is trained beside the adapters.
    """
    if not is_bitsandbytes_available():
        raise Refusal(
            "bitsandbytes is not installed", "--load_in_4bit", "pip install bitsandbytes==0.50.2"
        )
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


def _from_config(auto_class: Any, config: PretrainedConfig) -> torch.nn.Module:
    if type(config) not in auto_class._model_mapping:
        what = f"{config.model_type} has no model for this task ({auto_class.__name__})"
        raise Refusal(what, "--model_type", "choose another architecture, or another recipe")
    try:
        with engines.whole_model():
            return auto_class.from_config(config)
    except Exception as error:  # each architecture checks in its own way, or not at all
        if isinstance(error, torch.OutOfMemoryError):
            raise
        what = f"{config.model_type} cannot be built this way"
        raise _misfit(config, what, error, "--model_type and --config_overrides") from None


def parameters(model: torch.nn.Module) -> tuple[int, int]:
    """Numbers of all parameters and of those that are trained."""
    # Of a parameter that ZeRO-3 shares out, this process may hold nothing.
    sizes = [
        (getattr(value, "ds_numel", value.numel()), value.requires_grad)
        for value in model.parameters()
    ]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def max_length(
    wanted: int, tokenizer: PreTrainedTokenizerBase, model: torch.nn.Module, answer: bool = False
) -> int:
    """`wanted`, or fewer tokens where the tokenizer or the model's positions end earlier: those of the text, or those
    of the answer to it."""
    positions = probes.positions(model)[answer]
    possible = int(min(wanted, tokenizer.model_max_length, positions))
    if possible < wanted:
        note(f"texts are cut to {possible} tokens, not {wanted}: the model has no more positions")
    return possible


@torch.inference_mode()
def check_isolation(model: torch.nn.Module, end: int) -> None:
    """Refuses a model that sees one packed document from another: its second text must get the logits it gets alone.

    Positions that begin anew tell transformers where a document begins, but not every architecture listens.
    """
    first, second = torch.tensor([[5, 6, 7, end]]), torch.tensor([[8, 6, 9, 5]])
    positions = torch.arange(4).repeat(2)[None]
    was_training = model.training
    model.eval()
    try:
        alone = model(input_ids=second, use_cache=False).logits
        both = torch.cat([first, second], 1)
        packed = model(input_ids=both, position_ids=positions, use_cache=False).logits[:, 4:]
        mixed = model(input_ids=both, use_cache=False).logits[:, 4:]
        isolated = (packed - alone).abs().max() < 0.01 * (mixed - alone).abs().max()
    except TypeError:  # it takes no position_ids
        isolated = False
    model.train(was_training)
    if not isolated:
        fix = "leave the flag out, or choose another architecture: gpt2 and llama keep documents apart"
        raise Refusal(
            f"{model.config.model_type} does not keep packed documents apart",
            "--packing_isolation",
            fix,
        )


def resize_positions(model: torch.nn.Module, length: int, wanted: bool | None) -> None:
    """Gives the model positions for `length` tokens if that was asked for; otherwise longer texts are cut."""
    positions = probes.configured_positions(model.config)
    if not wanted or positions >= length:
        return
    try:
        model.resize_position_embeddings(length)
    except NotImplementedError:
        what = f"{model.config.model_type} cannot get more than its {positions} positions"
        raise Refusal(
            what, "--resize_position_embeddings", f"--max_source_length {positions}"
        ) from None


def trained_labels(arguments: Arguments, training_arguments: Any) -> Labels | None:
    """The labels of the checkpoint: its ids are the ones that its answers mean, and that a training goes on from.

    None without a checkpoint, for one that is no classifier or names no class, and where its head is to be a new one.
    """
    if not arguments.model_name_or_path or (
        training_arguments.do_train and arguments.ignore_mismatched_sizes
    ):
        return None
    flag, name = "--model_name_or_path", arguments.model_name_or_path
    config = checkpoint_config(name, flag, arguments)
    names = [config.id2label[number] for number in range(config.num_labels)]
    kind = (config.architectures or [""])[0]
    classifies = kind.endswith(CLASSIFIES)
    if kind and not classifies and not training_arguments.do_train:
        fix = "name the folder of a trained classifier (a run's --output_dir), or train this one first"
        raise Refusal(f"nothing is trained, and {name} holds no classifier but a {kind}", flag, fix)
    unnamed = names == [f"LABEL_{number}" for number in range(len(names))]
    if training_arguments.do_train and (not classifies or unnamed):
        return None
    goes_on = training_arguments.do_train
    if config.num_labels == 1 or config.problem_type == REGRESSION:
        names = names if config.num_labels > 1 else []
        return None if goes_on else Labels(REGRESSION, names, {}, [], 0, 0.0)
    kind = MULTI if config.problem_type == MULTI else SINGLE
    ids = {name: number for number, name in enumerate(names)}
    return Labels(kind, names, ids, [0] * len(names), 0, 0.0, goes_on)
