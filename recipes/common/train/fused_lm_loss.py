"""Computes the cross entropy of tokens without the logits of a whole batch.

A masked model predicts 15 % of its positions, a translator none of its padding, and the logits of a
batch are the largest array of a training step (32 x 512 positions x 50,257 tokens of the vocabulary
in fp32: 3.3 GB). So the head reads only the positions that have a label, in chunks, and computes
the gradients along with the loss (as Liger's fused linear cross entropy does, Hsu et al. 2024).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from recipes.common.data.labels import MISSING
from recipes.common.train.losses import TokenLoss

# Both tables are by device; any other device counts as a GPU.
# Bytes of logits that are computed at once: products of fewer rows leave most of a GPU idle.
LOGITS_AT_ONCE = {"cpu": 2**26, "gpu": 2**29}
# The vocabulary is padded to a multiple of this: a GPU takes nearly seven times as long for
# products of 50,257 columns as for 50,304.
VOCABULARY_MULTIPLE = {"cpu": 1, "gpu": 64}
IN_CACHE = 2**20  # logits that are scored at once on a CPU: 4 MB in fp32
BIAS = "final_logits_bias"  # BART and its relatives add it after the head


def _base(model: nn.Module) -> nn.Module:
    return model.base_model


def _decoder(model: nn.Module) -> nn.Module:
    return model.get_decoder()


# Where the head's hidden states come from: the first of these that feeds the head.
BODIES: tuple[Callable[[nn.Module], nn.Module], ...] = (_base, _decoder)


class Head:
    """Lets a model's output layer return scores while `predicting` gives the labels.

    Scores are [positions, 2]: the loss in nats and the hit (0 or 1) of each labelled position, in
    the order of the rows. With label smoothing an evaluation returns both losses, [positions, 3]:
    perplexity needs the loss without smoothing, and the smoothed one is the loss that trains. At
    any other time the layer returns logits.
    """

    def __init__(self, model: nn.Module, body: nn.Module, loss: TokenLoss, backend: str | None):
        self.model = model
        self.loss = loss
        self.score = _score
        if backend:
            self.score = torch.compile(_score_rows, backend=backend)
        self.layer = model.get_output_embeddings()
        self.project = self.layer.forward
        self.labels: torch.Tensor | None = None  # of the batch, [rows, length]
        self.predicted: torch.Tensor | None = None  # those that are predicted, [positions]
        self.bias: torch.Tensor | None = None
        self.layer.forward = self._scores_or_logits
        body.register_forward_hook(self._select)

    @contextmanager
    def predicting(self, labels: torch.Tensor) -> Iterator[None]:
        """Makes the model's logits the scores of these labels [rows, length] inside the context."""
        self.labels = labels
        try:
            yield
        finally:
            if self.bias is not None:
                setattr(self.model, BIAS, self.bias)
            self.labels = self.predicted = self.bias = None

    @torch.compiler.disable
    def _select(self, body: nn.Module, inputs: Any, output: Any) -> Any:
        """Leaves in the body's output only the hidden states of the labelled positions."""
        if self.labels is None:
            return output
        # The bias is set aside here, not before the forward pass: under DDP that begins by copying
        # all buffers.
        self.bias = getattr(self.model, BIAS, None)
        if self.bias is not None:
            setattr(self.model, BIAS, torch.zeros(1, 1, device=self.bias.device))
        states, labels = output[0], self.loss.predicted(self.labels)
        rows, places = labels.ne(MISSING).nonzero(as_tuple=True)
        self.predicted = labels[rows, places]
        positions = rows * states.shape[1] + places
        chosen = states.flatten(0, 1).index_select(0, positions)[None]
        if isinstance(output, tuple):
            return chosen, *output[1:]
        output[next(iter(output))] = chosen
        return output

    @torch.compiler.disable
    def _scores_or_logits(self, states: torch.Tensor) -> torch.Tensor:
        if self.labels is None:
            return self.project(states)
        bias = self.layer.bias if self.bias is None else self.bias[0]
        learns, smoothing = torch.is_grad_enabled(), self.loss.label_smoothing
        return _Scores.apply(
            states[0], self.layer.weight, bias, self.predicted, smoothing, learns, self.score
        )


def install(model: nn.Module, loss: TokenLoss, backend: str | None = None) -> Head | None:
    """Returns the model's head, which can return scores from now on.

    With a `backend` torch.compile makes the scores. Returns None where the model's output layer is
    not linear, or where the model does more with the logits than the layer (Gemma 2 bounds them,
    Cohere scales them).
    """
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    if not isinstance(model, PreTrainedModel):
        return None
    if type(model.get_output_embeddings()) is not nn.Linear:
        return None
    for body in BODIES:
        try:
            if _feeds_the_head(body, model):
                return Head(model, body(model), loss, backend)
        except Exception:  # this architecture does something in another way than others
            continue
    return None


def _feeds_the_head(body: Callable[[nn.Module], nn.Module], model: nn.Module) -> bool:
    """Whether the output layer reads this part's hidden states, and its output is the model's.

    Both are tried, position by position, on a copy without weights.
    """
    with torch.device("meta"), torch.no_grad():
        copy = type(model)(model.config)
    scores = torch.arange(10.0).reshape(1, 5, 2)
    states = torch.empty(1, 5, model.config.get_text_config().hidden_size, device="meta")
    seen = []

    def give_states(*_: object, **__: object) -> States:
        return States(last_hidden_state=states)

    def give_scores(states: torch.Tensor) -> torch.Tensor:
        seen.append(states.shape[:2])
        return scores

    body(copy).forward = give_states
    copy.get_output_embeddings().forward = give_scores
    if hasattr(copy, BIAS):
        setattr(copy, BIAS, torch.zeros(1, 1))
    inputs = {"input_ids": torch.zeros(1, 3, dtype=torch.int64, device="meta")}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
        inputs["encoder_outputs"] = States(last_hidden_state=states)
    return torch.equal(copy(**inputs).logits, scores) and seen == [(1, 5)]


class States(BaseModelOutput):
    """An output of hidden states, and None for all else that an output may hold.

    Switch reads its routers' logits from it.
    """

    def __getattr__(self, name: str) -> None:
        return None


class _Scores(torch.autograd.Function):
    """Computes the scores of `Head`; where something `learns`, no hit is counted.

    Its arguments are states [positions, width], weight [vocabulary size, width], bias, labels
    [positions], smoothing, learns and score. `forward` cannot find out by itself whether something
    learns: gradients are never enabled in it, and `needs_input_grad` is true in an evaluation, too.

    Every position must weigh the same in what is differentiated: TokenLoss sums them.
    """

    @staticmethod
    def forward(
        context: FunctionCtx,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        smoothing: float,
        learns: bool,
        score: Callable[..., torch.Tensor],
    ) -> torch.Tensor:
        device, needed = states.device.type, context.needs_input_grad
        precision, vocabulary = _precision(states), len(weight)
        columns = 2 if learns or not smoothing else 3
        scores = torch.zeros(len(labels), columns, device=states.device)
        of_states, of_weight, of_bias = [], None, None
        with torch.autocast(device, enabled=False):
            weight = _padded(weight.to(precision))
            for part in _chunks(len(labels), weight):
                read = states[part].to(precision)
                # Logits, until their gradients take their place. Those of the padding are zero, and
                # stay so.
                gradients = read @ weight.T
                scores[part] = score(
                    gradients[:, :vocabulary], bias, labels[part], smoothing, learns
                )
                if not learns:
                    continue
                of_states.append((gradients @ weight).float())
                if needed[1]:
                    of_weight = _plus(of_weight, (gradients.T @ read)[:vocabulary])
                if needed[2]:
                    of_bias = _plus(of_bias, gradients[:, :vocabulary].sum(0))
        context.gradients = [None, of_weight, of_bias]
        if learns and needed[0]:
            context.gradients[0] = torch.cat(of_states)
        return scores

    @staticmethod
    def backward(context: FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale = gradient[:1, 0].sum()
        for one in context.gradients:
            if one is not None:
                one.mul_(scale)
        return (*context.gradients, None, None, None, None)


def _precision(states: torch.Tensor) -> torch.dtype:
    """Returns the type that products of the states are computed in."""
    kind = states.device.type
    if torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return states.dtype


def _padded(weight: torch.Tensor) -> torch.Tensor:
    """Returns the weight with as many rows as the device multiplies fast."""
    missing = -len(weight) % VOCABULARY_MULTIPLE[_kind(weight)]
    if not missing:
        return weight
    return functional.pad(weight, (0, 0, 0, missing))


def _chunks(positions: int, weight: torch.Tensor) -> Iterator[slice]:
    """Yields the positions whose logits are computed at once.

    There is one chunk at least: without labels gradients are zero.
    """
    bytes_per_position = len(weight) * weight.element_size()
    size = max(1, LOGITS_AT_ONCE[_kind(weight)] // bytes_per_position)
    for start in range(0, max(1, positions), size):
        yield slice(start, start + size)


def _kind(weight: torch.Tensor) -> str:
    if weight.device.type == "cpu":
        return "cpu"
    return "gpu"


def _score(
    logits: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    smoothing: float,
    learns: bool,
) -> torch.Tensor:
    """Scores all rows; a CPU takes a few at a time, which stay in its cache meanwhile."""
    size = len(logits)
    if logits.device.type == "cpu":
        size = IN_CACHE // logits.shape[1]
    size = max(1, size)
    parts = zip(logits.split(size), labels.split(size), strict=True)
    return torch.cat([_score_rows(rows, bias, own, smoothing, learns) for rows, own in parts])


def _score_rows(
    rows: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    smoothing: float,
    learns: bool,
) -> torch.Tensor:
    """Returns the scores of each position's logits (see `Head`).

    Where it `learns`, the gradients take the place of the logits, and no hit is counted.
    """
    logs = rows.float().contiguous()
    if bias is not None:
        logs += bias
    hits = torch.zeros_like(labels) if learns else logs.argmax(-1).eq(labels)
    logs = torch.log_softmax(logs, -1, out=logs)
    losses = _losses(logs, labels, smoothing)
    if learns:
        rows.copy_(_gradients(logs, labels, smoothing))
        return torch.stack([losses, hits], 1)
    if smoothing:
        return torch.stack([_losses(logs, labels, 0.0), hits, losses], 1)
    return torch.stack([losses, hits], 1)


def _losses(logs: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Returns cross entropy from log-probabilities [positions, vocabulary size]."""
    losses = -logs.gather(1, labels[:, None])[:, 0]
    if smoothing:
        return (1 - smoothing) * losses - smoothing * logs.mean(-1)
    return losses


def _gradients(logs: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Returns the gradient of each position's loss by its logits: probabilities minus labels.

    The labels are smoothed. The gradients take the place of the log-probabilities.
    """
    gradients = logs.exp_()
    if smoothing:
        gradients -= smoothing / gradients.shape[-1]
    if torch.compiler.is_compiling():  # so all is one pass over the logits
        tokens = torch.arange(gradients.shape[-1], device=labels.device)
        return gradients - (1 - smoothing) * (tokens == labels[:, None])
    gradients[torch.arange(len(labels), device=labels.device), labels] -= 1 - smoothing
    return gradients


def _plus(total: torch.Tensor | None, part: torch.Tensor) -> torch.Tensor:
    """Returns the sum in fp32, whatever the parts are."""
    if total is None:
        return part.float()
    return total.add_(part)
