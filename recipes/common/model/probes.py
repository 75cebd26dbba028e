"""What a built model does with a text, tried on eight tokens, before any text is tokenised: whether its parts fit each
other, how many tokens its positions hold, whether it sees the tokens that it is to predict."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from recipes.common.config import engines

LARGE = 1_000_000_000  # weights
LENGTH, SAME = 8, 4  # tokens of a text, and how many its two versions have in common
# Logits that should be equal differ by less than this share of how far apart the others are.
TOLERANCE = {torch.float32: 1e-5}
ROUGH = 1e-2  # in 16 bits


class Lookups(TorchFunctionMode):
    """Within it every table of positions is noted with the tokens that it has rows for: for the text, for the answer.

    A table of positions is one whose rows are looked up one after the other, although all tokens are the same.
    RoBERTa's kin begin behind the row of the padding token, BART's with the third row: what stands before is lost.
    """

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.text, self.answer = torch.inf, torch.inf
        self._answering = False
        limits = [
            value
            for name, value in model.config.to_dict().items()
            if "position" in name and type(value) is int
        ]
        self._sizes = {limit + lost for limit in limits for lost in range(4)}
        if model.config.is_encoder_decoder:
            self._hook = _decoder(model).register_forward_pre_hook(self._begin_answer)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if hasattr(self, "_hook"):
            self._hook.remove()

    def _begin_answer(self, *_: Any) -> None:
        self._answering = True

    def __torch_function__(
        self, called: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if called is functional.embedding:
            self._look(*args[:2])
        return called(*args, **(kwargs or {}))

    def _look(self, rows: torch.Tensor, table: torch.Tensor) -> None:
        first = (
            rows.reshape(-1, rows.shape[-1])[0].tolist()
            if rows.dim() in (1, 2) and rows.numel()
            else []
        )
        is_text = (
            len(first) == LENGTH or len(table) in self._sizes
        )  # Longformer's kin fill a text up to their window
        if is_text and first[:LENGTH] == list(range(first[0], first[0] + LENGTH)):
            room = len(table) - first[0]
            if self._answering:
                self.answer = min(self.answer, room)
            else:
                self.text = min(self.text, room)


def positions(model: torch.nn.Module) -> tuple[float, float]:
    """How many tokens a text may have, and an answer: as many as the tables of positions hold; where there is none, as
    many as the configuration says; infinity without such a limit (XLNet says -1)."""
    limit = configured_positions(model.config)
    probed = _probed(model)
    try:
        lookups = Lookups(probed)
        with _as_it_was(probed), lookups:
            _logits(probed, _texts(probed)[:1])
    except Exception:  # it cannot be tried, or needs more than a text
        return limit, limit
    return min(lookups.text, limit), min(lookups.answer, limit)


def configured_positions(config: Any) -> float:
    """The positions that a configuration speaks of; infinity where it sets no limit."""
    number = getattr(config, "max_position_embeddings", None)
    return number if isinstance(number, int) and number > 0 else torch.inf


def logits(model: torch.nn.Module) -> torch.Tensor | None:
    """What the model makes of two short texts [2, LENGTH, …]; None where it cannot be tried. Errors are the model's."""
    probed = _probed(model)
    if probed is None:
        return None
    with _as_it_was(probed):
        return _logits(probed, _texts(probed)).float()


def sees_ahead(logits: torch.Tensor | None, dtype: torch.dtype) -> bool:
    """Whether the logits of a text's first tokens change with the tokens behind them; no setting says so for every
    architecture."""
    if logits is None:
        return False
    changes = (logits[0] - logits[1]).abs()
    return bool(changes[:SAME].max() > TOLERANCE.get(dtype, ROUGH) * changes[SAME:].max())


def reads_both_sides(model: torch.nn.Module) -> bool:
    """Whether a model that is only asked sees ahead; where it cannot be tried, it is believed."""
    try:
        return sees_ahead(logits(model), model.dtype)
    except Exception:  # it needs more than a text
        return False


def write(model: torch.nn.Module) -> None:
    """Has the model write two tokens. Errors are the model's; a large one is believed, for its kind is tried out often
    enough and a token takes it seconds."""
    if not model.can_generate() or sum(weight.numel() for weight in model.parameters()) > LARGE:
        return
    probed = _probed(model)
    if probed is None:
        return
    ids = _texts(probed)[:1]
    start = {"decoder_start_token_id": int(ids[0, 0])} if probed.config.is_encoder_decoder else {}
    with _as_it_was(probed):
        probed.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False, **start
        )


def a_decoder_sees_ahead(model: torch.nn.Module) -> bool:
    """Whether a model of this kind would see ahead with is_decoder=true, too; built anew, for the answer is rare."""
    config = copy.deepcopy(model.config)
    if getattr(config, "is_decoder", None) is not False:
        return True
    config.is_decoder = True
    with engines.whole_model():
        anew = type(model)(config)
    return sees_ahead(logits(anew), anew.dtype)


def words(model: torch.nn.Module) -> int:
    """How many tokens the model has embeddings for; 0 where it has no such table (CANINE reads characters)."""
    try:
        layer = model.get_input_embeddings()
    except NotImplementedError:
        return 0
    return getattr(layer, "num_embeddings", 0) or len(
        layer.weight
    )  # I-BERT's layer has no such number


def _probed(model: torch.nn.Module) -> torch.nn.Module | None:
    """The model, or where its weights are shared out between processes (ZeRO-3) a small one of its kind; None where
    that cannot be made."""
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
    """Within it nothing is learned or dropped; afterwards every part is as it was: BigBird changes its attention for
    good where a text is short."""
    kept = [(part, dict(vars(part)), dict(part._modules)) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for part, values, children in kept:
            vars(part).update(values)
            part._modules.clear()
            part._modules.update(children)


def _texts(model: torch.nn.Module) -> torch.Tensor:
    """Two texts [2, LENGTH] that begin with the same SAME tokens, go on with others, and end as a text should."""
    config = model.config.get_text_config()
    special = {
        value
        for name, value in vars(config).items()
        if name.endswith("_token_id") and type(value) is int
    }
    known, end = range(words(model) or 100), config.eos_token_id
    ordinary = [number for number in known[3:] if number not in special]
    one, other, *_ = [*ordinary, *known[:3]]
    texts = torch.full((2, LENGTH), one)
    texts[1, SAME:] = other
    if (
        type(end) is int and end in known
    ):  # BART's classifiers read it; a small copy of GPT-2 may have no word 50256
        texts[:, -1] = end
    return texts.to(model.device)


def _logits(model: torch.nn.Module, texts: torch.Tensor) -> torch.Tensor:
    inputs = {"input_ids": texts, "attention_mask": torch.ones_like(texts)}
    if model.config.is_encoder_decoder and model.get_output_embeddings() is not None:
        inputs["decoder_input_ids"] = texts
    output = model(**inputs)
    return output["logits"] if "logits" in output else output[0]


def _decoder(model: torch.nn.Module) -> torch.nn.Module:
    return model.get_decoder()
