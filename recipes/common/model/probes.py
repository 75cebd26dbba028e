"""Tries a built model on eight tokens, before any text is tokenised.

Shows whether its parts fit each other, how many tokens its positions hold, and whether it sees the
tokens that it has to predict.
"""

import copy
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from recipes.common.config import engines
from recipes.common.runtime import upstream

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

LARGE = 1_000_000_000  # weights
LENGTH, IN_COMMON = 8, 4  # tokens of a text, and how many its two versions have in common
# Logits count as equal if their difference is below this share of the later logits' difference.
TOLERANCE = {torch.float32: 1e-5}
TOLERANCE_IN_16_BITS = 1e-2


class Lookups(TorchFunctionMode):
    """Measures, while it is active, how many tokens fit into a model's tables of positions.

    It keeps one number for the text, and one for the target text of an encoder-decoder. A table of
    positions is one whose rows are looked up one after the other, although all tokens are the same.
    RoBERTa and its relatives start behind the row of the padding token, and BART with the third
    row: the rows before cannot be used.
    """

    def __init__(self, model: "PreTrainedModel"):
        super().__init__()
        self.text = torch.inf
        self.target = torch.inf
        self._in_decoder = False
        self._sizes = _sizes_of_position_tables(model.config)
        self._hook = None
        if model.config.is_encoder_decoder:
            self._hook = model.get_decoder().register_forward_pre_hook(self._enter_decoder)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if self._hook is not None:
            self._hook.remove()

    def _enter_decoder(self, *_: Any) -> None:
        self._in_decoder = True

    def __torch_function__(
        self,
        called: Callable,
        types: Collection[type],
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> Any:
        if called is functional.embedding:
            self._look(*args[:2])
        return called(*args, **(kwargs or {}))

    def _look(self, rows: torch.Tensor, table: torch.Tensor) -> None:
        if rows.dim() not in (1, 2) or not rows.numel():
            return
        looked_up = rows.reshape(-1, rows.shape[-1])[0].tolist()
        # Longformer and its relatives fill a text up to their window. Then the table's size counts.
        has_expected_size = len(table) in self._sizes
        if len(looked_up) != LENGTH and not has_expected_size:
            return
        first = looked_up[0]
        if looked_up[:LENGTH] != list(range(first, first + LENGTH)):
            return
        room = len(table) - first
        if self._in_decoder:
            self.target = min(self.target, room)
        else:
            self.text = min(self.text, room)


def _sizes_of_position_tables(config: "PretrainedConfig") -> set[int]:
    """Returns the numbers of rows that a table of positions may have, with up to three unused."""
    sizes = set()
    for name, limit in config.to_dict().items():
        if "position" in name and type(limit) is int:
            sizes.update(range(limit, limit + 4))
    return sizes


def positions(model: torch.nn.Module) -> tuple[float, float]:
    """Returns how many tokens a text may have, and how many tokens a target text may have.

    Each number is the size of a position table. Without a table it is the number in the
    configuration. Without a limit (XLNet says -1) it is infinity.
    """
    limit = configured_positions(model.config)
    probed = _probed(model)
    try:
        lookups = Lookups(probed)
        with _as_it_was(probed), lookups:
            _logits(probed, _texts(probed)[:1])
    except Exception:  # it cannot be tried, or needs more than a text
        return limit, limit
    return min(lookups.text, limit), min(lookups.target, limit)


def configured_positions(config: "PretrainedConfig") -> float:
    """Returns the positions that a configuration names; infinity where it sets no limit."""
    number = getattr(config, "max_position_embeddings", None)
    return number if isinstance(number, int) and number > 0 else torch.inf


def logits(model: torch.nn.Module) -> torch.Tensor | None:
    """Returns the model's logits of two short texts [2, LENGTH, …]; raises the model's own errors.

    Returns None where the model cannot be tried.
    """
    probed = _probed(model)
    if probed is None:
        return None
    with _as_it_was(probed):
        return _logits(probed, _texts(probed)).float()


def sees_ahead(logits: torch.Tensor | None, dtype: torch.dtype) -> bool:
    """Whether the logits of a text's first tokens change with the tokens behind them.

    No setting says so for every architecture.
    """
    if logits is None:
        return False
    changes = (logits[0] - logits[1]).abs()
    before, behind = changes[:IN_COMMON].max(), changes[IN_COMMON:].max()
    return bool(before > TOLERANCE.get(dtype, TOLERANCE_IN_16_BITS) * behind)


def reads_both_sides(model: torch.nn.Module) -> bool:
    """Whether a trained model sees ahead; False where it cannot be tried."""
    try:
        return sees_ahead(logits(model), model.dtype)
    except Exception:  # it needs more than a text
        return False


def write(model: "PreTrainedModel") -> None:
    """Lets the model write two tokens; raises the model's own errors.

    A large model is not tried, for a token takes it seconds. Its architecture is tried often enough
    with smaller models.
    """
    if not model.can_generate() or sum(weight.numel() for weight in model.parameters()) > LARGE:
        return
    probed = _probed(model)
    if probed is None:
        return
    ids = _texts(probed)[:1]
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 2, "do_sample": False}
    if probed.config.is_encoder_decoder:
        options["decoder_start_token_id"] = int(ids[0, 0])
    with _as_it_was(probed):
        probed.generate(ids, **options)


def sees_ahead_as_decoder(model: "PreTrainedModel") -> bool:
    """Whether a model of this kind would see ahead with is_decoder=true, too.

    It builds a new model. That is slow, but rarely needed.
    """
    config = copy.deepcopy(model.config)
    if getattr(config, "is_decoder", None) is not False:
        return True
    config.is_decoder = True
    with engines.whole_model():
        decoder = type(model)(config)
    return sees_ahead(logits(decoder), decoder.dtype)


def vocabulary_size(model: "PreTrainedModel") -> int:
    """Returns the size of the model's vocabulary: for how many tokens it has embeddings.

    Returns 0 where it has no such table (CANINE reads characters).
    """
    try:
        layer = model.get_input_embeddings()
    except NotImplementedError:
        return 0
    return getattr(layer, "num_embeddings", 0) or len(layer.weight)  # I-BERT's has no such number


def _probed(model: torch.nn.Module) -> "PreTrainedModel | None":
    """Returns the model to try: itself, or a small one of its kind where ZeRO-3 shards its weights.

    Returns None where a small one cannot be made.
    """
    weights = list(model.parameters())
    if not any(hasattr(weight, "ds_id") or weight.is_meta for weight in weights):
        return model
    config = copy.deepcopy(model.config)
    try:
        config.num_hidden_layers = min(config.num_hidden_layers, 2)
        with engines.whole_model(), torch.random.fork_rng(devices=[]):
            return type(model)(config)
    except Exception:  # not every configuration can be made smaller this way
        return None


@contextmanager
def _as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Keeps the model from learning and from dropout, and restores every part of it afterwards.

    BigBird, for example, changes its attention for good where a text is short.
    """
    kept = [(part, dict(vars(part)), dict(upstream.submodules(part))) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for part, values, children in kept:
            vars(part).update(values)
            upstream.submodules(part).clear()
            upstream.submodules(part).update(children)


def _texts(model: "PreTrainedModel") -> torch.Tensor:
    """Returns two texts [2, LENGTH] that start with the same IN_COMMON tokens and then differ.

    Both end with the token that ends a text.
    """
    config = model.config.get_text_config()
    special = set()
    for name, value in vars(config).items():
        if name.endswith("_token_id") and type(value) is int:
            special.add(value)
    known = range(vocabulary_size(model) or 100)
    ordinary = [number for number in known[3:] if number not in special]
    one, other, *_ = [*ordinary, *known[:3]]
    texts = torch.full((2, LENGTH), one)
    texts[1, IN_COMMON:] = other
    end = config.eos_token_id
    # BART's classifiers read the end. A small copy of GPT-2 may have no token 50256.
    if type(end) is int and end in known:
        texts[:, -1] = end
    return texts.to(model.device)


def _logits(model: "PreTrainedModel", texts: torch.Tensor) -> torch.Tensor:
    inputs = {"input_ids": texts, "attention_mask": torch.ones_like(texts)}
    if model.config.is_encoder_decoder and model.get_output_embeddings() is not None:
        inputs["decoder_input_ids"] = texts
    output = model(**inputs)
    return output["logits"] if "logits" in output else output[0]
