"""The vocabulary head where tokens are predicted and nowhere else; cross entropy without the logits of a whole batch.

A masked model predicts 15 % of its positions, a translator none of its padding, and the logits of a batch are the
largest array of a training step (32 x 512 positions x 50,257 words in fp32: 3.3 GB). So the head reads only what
follows a label, in chunks, and computes the gradients along with the loss (as Liger's fused linear cross entropy does,
Hsu et al. 2024).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from recipes.common.data.labels import MISSING
from recipes.common.train.losses import TokenLoss

# By device; another one counts as a GPU.
LOGITS_AT_ONCE = {
    "cpu": 2**26,
    "gpu": 2**29,
}  # bytes: products of fewer rows leave most of a GPU idle
WORDS_TO = {
    "cpu": 1,
    "gpu": 64,
}  # a GPU takes nearly seven times as long for products of 50,257 columns as of 50,304
IN_CACHE = 2**20  # logits that are scored at once on a CPU: 4 MB in fp32
# The part that ends with the hidden states that the head reads: the first of these that does.
BODIES: tuple[Callable[[nn.Module], nn.Module], ...] = (
    lambda model: model.base_model,
    lambda model: model.get_decoder(),
)
BIAS = "final_logits_bias"  # BART and its relatives add it after the head


class Head:
    """A model's output layer, which answers with [positions, 2]: loss in nats and hit (0 or 1) of each labelled
    position, in the order of the rows, while `predicting` says the labels; with logits at any other time. What is
    learned is smoothed, what is evaluated is not."""

    def __init__(self, model: nn.Module, body: nn.Module, loss: TokenLoss, backend: str | None):
        self.model, self.loss = model, loss
        self.score = torch.compile(_score_rows, backend=backend) if backend else _score
        self.layer = model.get_output_embeddings()
        self.project = self.layer.forward
        self.labels: torch.Tensor | None = None
        self.truth: torch.Tensor | None = (
            None  # of the labels those that are predicted, [positions]
        )
        self.bias: torch.Tensor | None = None
        self.layer.forward = self._answer
        body.register_forward_hook(self._select)

    @contextmanager
    def predicting(self, labels: torch.Tensor) -> Iterator[None]:
        """Within it the model's logits are the scores of these labels [rows, length]."""
        self.labels = labels
        try:
            yield
        finally:
            if self.bias is not None:
                setattr(self.model, BIAS, self.bias)
            self.labels = self.truth = self.bias = None

    @torch.compiler.disable
    def _select(self, body: nn.Module, inputs: Any, output: Any) -> Any:
        if self.labels is None:
            return output
        self.bias = getattr(self.model, BIAS, None)
        if (
            self.bias is not None
        ):  # here, not before the forward pass, which begins under DDP by copying all buffers
            setattr(self.model, BIAS, torch.zeros(1, 1, device=self.bias.device))
        states, labels = output[0], self.loss.predicted(self.labels)
        rows, places = labels.ne(MISSING).nonzero(as_tuple=True)
        self.truth = labels[rows, places]
        chosen = states.flatten(0, 1).index_select(0, rows * states.shape[1] + places)[None]
        if isinstance(output, tuple):
            return chosen, *output[1:]
        output[next(iter(output))] = chosen
        return output

    @torch.compiler.disable
    def _answer(self, states: torch.Tensor) -> torch.Tensor:
        if self.labels is None:
            return self.project(states)
        bias = self.layer.bias if self.bias is None else self.bias[0]
        kept = (states[0], self.layer.weight, bias, self.truth)
        learns = torch.is_grad_enabled()
        return _Scores.apply(
            *kept, self.loss.label_smoothing if learns else 0.0, learns, self.score
        )


def install(model: nn.Module, loss: TokenLoss, backend: str | None = None) -> Head | None:
    """The model's head, from now on one that can answer with scores, which torch.compile makes where it has a backend;
    None where the model's output is no linear layer, or where it does more with the logits than the layer says (Gemma 2
    bounds them, Cohere scales them)."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    if (
        not isinstance(model, PreTrainedModel)
        or type(model.get_output_embeddings()) is not nn.Linear
    ):
        return None
    for body in BODIES:
        try:
            if _feeds_the_head(body, model):
                return Head(model, body(model), loss, backend)
        except Exception:  # whatever this architecture does otherwise than others
            continue
    return None


def _feeds_the_head(body: Callable[[nn.Module], nn.Module], model: nn.Module) -> bool:
    """Whether the hidden states of this part go to the output layer, position by position, and what the layer answers
    is the model's output: tried on a copy without weights."""
    with torch.device("meta"), torch.no_grad():
        copy = type(model)(model.config)
    answer = torch.arange(10.0).reshape(1, 5, 2)
    states = torch.empty(1, 5, model.config.get_text_config().hidden_size, device="meta")
    seen = []

    def answer_with_scores(states: torch.Tensor) -> torch.Tensor:
        seen.append(states.shape[:2])
        return answer

    body(copy).forward = lambda *_, **__: States(last_hidden_state=states)
    copy.get_output_embeddings().forward = answer_with_scores
    if hasattr(copy, BIAS):
        setattr(copy, BIAS, torch.zeros(1, 1))
    inputs = {"input_ids": torch.zeros(1, 3, dtype=torch.int64, device="meta")}
    if model.config.is_encoder_decoder:
        inputs |= {
            "decoder_input_ids": inputs["input_ids"],
            "encoder_outputs": States(last_hidden_state=states),
        }
    return torch.equal(copy(**inputs).logits, answer) and seen == [(1, 5)]


class States(BaseModelOutput):
    """Hidden states, and None for all else that an output may hold (Switch asks for its routers' logits)."""

    def __getattr__(self, name: str) -> None:
        return None


class _Scores(torch.autograd.Function):
    """(states [positions, width], weight [words, width], bias, labels [positions], smoothing, learns, score) ->
    [positions, 2]: loss in nats and, where nothing `learns`, hit. (Within `forward` no gradients are enabled, and what
    it says of the needed ones is true in an evaluation, too.)

    Every position must weigh the same in what is differentiated: TokenLoss sums them.
    """

    @staticmethod
    def forward(
        context: Any,
        states: Any,
        weight: Any,
        bias: Any,
        labels: Any,
        smoothing: float,
        learns: bool,
        score: Callable,
    ) -> torch.Tensor:
        kind, needed = states.device.type, context.needs_input_grad[:3]
        precision = (
            torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        )
        scores = torch.zeros(len(labels), 2, device=states.device)
        of_states, of_weight, of_bias = [], None, None
        with torch.autocast(kind, enabled=False):
            words, device = len(weight), "cpu" if kind == "cpu" else "gpu"
            weight = weight.to(precision)
            if added := -words % WORDS_TO[device]:
                weight = functional.pad(weight, (0, 0, 0, added))
            size = max(1, LOGITS_AT_ONCE[device] // (len(weight) * weight.element_size()))
            for start in range(
                0, max(1, len(labels)), size
            ):  # once at least: without labels gradients are zero
                part = slice(start, start + size)
                read = states[part].to(precision)
                slopes = (
                    read @ weight.T
                )  # logits, until they are scored; beyond the words they are zero, and stay it
                scores[part] = score(slopes[:, :words], bias, labels[part], smoothing, learns)
                if learns:
                    of_states.append((slopes @ weight).float())
                    of_weight = _plus(of_weight, (slopes.T @ read)[:words]) if needed[1] else None
                    of_bias = _plus(of_bias, slopes[:, :words].sum(0)) if needed[2] else None
        context.gradients = [
            torch.cat(of_states) if learns and needed[0] else None,
            of_weight,
            of_bias,
        ]
        return scores

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple:
        scale = gradient[:1, 0].sum()
        return (
            *(None if one is None else one.mul_(scale) for one in context.gradients),
            None,
            None,
            None,
            None,
        )


def _score(
    logits: torch.Tensor, bias: Any, labels: torch.Tensor, smoothing: float, learns: bool
) -> torch.Tensor:
    """`_score_rows`; a CPU takes a few at a time, which stay in its cache meanwhile."""
    size = max(1, IN_CACHE // logits.shape[1] if logits.device.type == "cpu" else len(logits))
    parts = zip(logits.split(size), labels.split(size), strict=True)
    return torch.cat([_score_rows(rows, bias, truth, smoothing, learns) for rows, truth in parts])


def _score_rows(
    rows: torch.Tensor, bias: Any, labels: torch.Tensor, smoothing: float, learns: bool
) -> torch.Tensor:
    """Loss and hit of each position's logits; where it `learns` the slopes take their place."""
    logs = rows.float().contiguous()
    if bias is not None:
        logs += bias
    hits = torch.zeros_like(labels) if learns else logs.argmax(-1).eq(labels)
    logs = torch.log_softmax(logs, -1, out=logs)
    scores = torch.stack([_losses(logs, labels, smoothing), hits], 1)
    if learns:
        rows.copy_(_slopes(logs, labels, smoothing))
    return scores


def _losses(logs: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Cross entropy by the logarithms of the probabilities [positions, words]."""
    losses = -logs.gather(1, labels[:, None])[:, 0]
    return (1 - smoothing) * losses - smoothing * logs.mean(-1) if smoothing else losses


def _slopes(logs: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """The derivative of each position's loss by its logits, in their place: probabilities minus smoothed truth."""
    slopes = logs.exp_()
    if smoothing:
        slopes -= smoothing / slopes.shape[-1]
    if torch.compiler.is_compiling():  # so all is one pass over the logits
        return slopes - (1 - smoothing) * (
            torch.arange(slopes.shape[-1], device=labels.device) == labels[:, None]
        )
    slopes[torch.arange(len(labels), device=labels.device), labels] -= 1 - smoothing
    return slopes


def _plus(total: torch.Tensor | None, part: torch.Tensor) -> torch.Tensor:
    """Sums in fp32, whatever the parts are."""
    return part.float() if total is None else total.add_(part)
