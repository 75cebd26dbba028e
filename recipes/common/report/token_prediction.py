"""Defines the tasks of language models.

A run shows loss and accuracy of every evaluated block, the hardest blocks, and continuations.
"""

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_utils import PredictionOutput

from recipes.common.checkpoints import tensor_files
from recipes.common.metrics import language_modeling
from recipes.common.model import probes
from recipes.common.report.task import Row, Task, cell, with_bounds
from recipes.common.tokens.encoding import Tokens
from recipes.common.train.losses import Loss

HEADLINE = "perplexity"
TOKEN_SCORES = (HEADLINE, "cross_entropy", "bits_per_byte", "accuracy")
KNOWN = with_bounds(TOKEN_SCORES)
BASELINE = "each token by its frequency alone"
CONTINUATIONS = 3  # texts that are continued
PROMPT, CONTINUATION = 32, 64  # tokens
TEMPERATURE = 0.8
PIPELINE = "from transformers import pipeline\n\n"

if TYPE_CHECKING:

    class Writer(PreTrainedModel):
        """A model that writes texts: transformers gives `generate` to the classes that do."""

        generate: Callable[..., torch.Tensor]


def masked_task(
    blocks: Tokens,
    tokenizer: PreTrainedTokenizerBase,
    loss: Loss,
    compute_metrics: Callable[..., dict[str, float]],
    data_collator: Callable[..., Any],
) -> Task:
    """Returns the task of a masked language model."""
    text = f"a text with a {tokenizer.mask_token} in it"
    return Task(
        loss=loss,
        compute_metrics=compute_metrics,
        data_collator=data_collator,
        reduce_logits=language_modeling.token_sums(shift=False),
        rows=lambda split, output: rows_of(blocks, tokenizer, split, output),
        examples=hardest_blocks,
        tag="fill-mask",
        what="A masked language model",
        use=f'{PIPELINE}pipeline("fill-mask", model="{{folder}}")("{text}")',
        headline=HEADLINE,
        shown=TOKEN_SCORES,
        known=KNOWN,
        baseline=BASELINE,
        unit="blocks",
    )


def causal_task(
    blocks: Tokens,
    tokenizer: PreTrainedTokenizerBase,
    model: "Writer",
    loss: Loss,
    compute_metrics: Callable[..., dict[str, float]],
    data_collator: Callable[..., Any],
) -> Task:
    """Returns the task of a causal language model, which continues a few of the evaluated texts."""
    return Task(
        loss=loss,
        compute_metrics=compute_metrics,
        data_collator=data_collator,
        reduce_logits=language_modeling.token_sums(shift=True),
        rows=lambda split, output: rows_of(blocks, tokenizer, split, output),
        examples=lambda rows, split: continuations(blocks, tokenizer, model, split),
        tag="text-generation",
        what="A causal language model",
        use=PIPELINE + 'pipeline("text-generation", model="{folder}")("A text begins")',
        headline=HEADLINE,
        shown=TOKEN_SCORES,
        known=KNOWN,
        baseline=BASELINE,
        unit="blocks",
    )


def rows_of(
    blocks: Tokens, tokenizer: PreTrainedTokenizerBase, split: str, output: PredictionOutput
) -> list[Row]:
    """Returns a row per block: id, text, number of predicted tokens, loss (nats per token),
    accuracy."""
    rows = []
    for block, totals in zip(getattr(blocks, split), output.predictions, strict=True):
        loss, hits, count = totals
        text = tokenizer.decode(block["input_ids"], skip_special_tokens=True)
        row = {"row_id": block["row"], "text": text, "tokens": int(count)}
        if count:
            row["loss"] = round(float(loss / count), 6)
            row["accuracy"] = round(float(hits / count), 6)
        rows.append(row)
    return rows


def hardest_blocks(rows: list[Row], split: str, most: int = 5) -> str:
    """Returns a table of the blocks with the largest losses."""
    scored = [row for row in rows if "loss" in row]
    worst = sorted(scored, key=lambda row: -row["loss"])[:most]
    lines = [f"## Hardest blocks of {split}\n"]
    lines += ["| block | text | tokens | loss | accuracy |", "|---|---|---|---|---|"]
    for row in worst:
        numbers = f"{row['tokens']} | {row['loss']:.2f} | {row['accuracy']:.1%}"
        lines.append(f"| {row['row_id']} | {cell(row['text'])} | {numbers} |")
    return "\n".join(lines) + "\n"


@torch.inference_mode()
def continuations(
    blocks: Tokens, tokenizer: PreTrainedTokenizerBase, model: "Writer", split: str
) -> str:
    """Returns a table of how the model continues the first tokens of some blocks, sampled with a
    fixed seed.

    The most probable token each time would loop: a model of some minutes ends in "and the door, and
    the door, …".
    """
    lines = [f"## Continuations of {split} texts\n"]
    lines += ["| text | model | how the text continues |", "|---|---|---|"]
    model.eval()
    with tensor_files.randomness_kept():
        torch.manual_seed(0)
        for block in islice(getattr(blocks, split), CONTINUATIONS):
            parts = _continued(block["input_ids"], tokenizer, model)
            texts = [tokenizer.decode(part, skip_special_tokens=True) for part in parts]
            lines.append(f"| {' | '.join(map(cell, texts))} |")
    return "\n".join(lines) + "\n"


def _continued(
    block: Any, tokenizer: PreTrainedTokenizerBase, model: "Writer"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns a block's first tokens, those that the model writes after them, and those that follow
    in the text."""
    ids = torch.from_numpy(numpy.array(block, dtype=numpy.int64))  # mapped ones are read-only
    start = min(PROMPT, len(ids) // 2 or 1)
    positions, _ = probes.positions(model)
    prompt = ids[None, :start].to(model.device)
    written = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=int(min(CONTINUATION, positions - start)),
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=50,
    )
    return prompt[0], written[0, start:], ids[start : start + CONTINUATION]
