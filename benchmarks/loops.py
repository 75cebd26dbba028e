"""Runs a work as a plain PyTorch loop, with nothing around the mathematics.

    python benchmarks/loops.py mlm_pretrain MODEL_FOLDER DATA_FOLDER 60 32 128

Tokens are ready before the clock starts. It prints rows per second, and the floating-point
operations of a row, as JSON.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy
import torch
import typer
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    get_linear_schedule_with_warmup,
)

MISSING = -100
COUNTED = 20  # batches of different lengths whose operations are counted
Batch = dict[str, torch.Tensor]


def blocks(tokenizer: Any, data: Path, length: int) -> torch.Tensor:
    """Returns all tokens of train.txt, cut into blocks."""
    texts = (data / "train.txt").read_text(encoding="utf-8").splitlines()
    ids = numpy.concatenate(
        [
            numpy.asarray(one.ids, numpy.int64)
            for one in tokenizer.backend_tokenizer.encode_batch_fast(texts)
        ]
    )
    return torch.from_numpy(ids[: len(ids) // length * length].reshape(-1, length))


def masked(tokenizer: Any, data: Path, rows: int, length: int) -> Iterator[Batch]:
    """Yields batches of blocks, with 15 % of their tokens masked."""
    found, generator = blocks(tokenizer, data, length), numpy.random.default_rng(0)
    while True:
        ids = found[torch.from_numpy(generator.integers(len(found), size=rows))]
        chosen = torch.rand(ids.shape) < 0.15
        inputs = torch.where(chosen & (torch.rand(ids.shape) < 0.8), tokenizer.mask_token_id, ids)
        yield {"input_ids": inputs, "labels": torch.where(chosen, ids, MISSING)}


def causal(tokenizer: Any, data: Path, rows: int, length: int) -> Iterator[Batch]:
    """Yields batches of blocks, which are their own labels."""
    found, generator = blocks(tokenizer, data, length), numpy.random.default_rng(0)
    while True:
        ids = found[torch.from_numpy(generator.integers(len(found), size=rows))]
        yield {"input_ids": ids, "labels": ids}


def padded(
    tokenizer: Any, read: Callable[[Path], list[tuple]], data: Path, rows: int, length: int
) -> Iterator[Batch]:
    """Yields batches of rows of similar length, padded to the longest of the batch."""
    generator = numpy.random.default_rng(0)
    found = [
        (tokenizer(text, truncation=True, max_length=length)["input_ids"], answer)
        for text, answer in read(data)
    ]
    found = [
        (ids, answer if isinstance(answer, int) else tokenizer(answer)["input_ids"][:128])
        for ids, answer in found
    ]
    while True:
        order = generator.permutation(len(found))
        for window in numpy.array_split(order, max(1, len(order) // (50 * rows))):
            grouped = sorted(window, key=lambda row: -len(found[row][0]))
            for start in generator.permutation(len(grouped) // rows) * rows:
                yield _batch(
                    [found[row] for row in grouped[start : start + rows]], tokenizer.pad_token_id
                )


def _batch(rows: list[tuple], pad: int) -> Batch:
    ids = pad_sequence([torch.tensor(ids) for ids, _ in rows], batch_first=True, padding_value=pad)
    batch = {"input_ids": ids, "attention_mask": ids.ne(pad).long()}
    if isinstance(rows[0][1], int):
        return batch | {"labels": torch.tensor([answer for _, answer in rows])}
    labels = pad_sequence(
        [torch.tensor(answer) for _, answer in rows], batch_first=True, padding_value=MISSING
    )
    start = torch.full_like(labels[:, :1], pad)
    return batch | {
        "labels": labels,
        "decoder_input_ids": torch.cat([start, labels[:, :-1].clamp(min=pad)], dim=1),
    }


def masked_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Returns BERT's loss; its head computes the masked positions only."""
    states = model.bert(batch["input_ids"]).last_hidden_state[batch["labels"] != MISSING]
    return functional.cross_entropy(
        model.cls(states).float(), batch["labels"][batch["labels"] != MISSING]
    )


def causal_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Returns the loss of every next token."""
    logits = model(batch["input_ids"], use_cache=False).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1).float(), batch["labels"][:, 1:].flatten())


def paired_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Returns the loss of every token of the targets."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs, use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1).float(), batch["labels"].flatten())


def class_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Returns the loss of the classes."""
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return functional.cross_entropy(logits.float(), batch["labels"])


def _rows(first: str, second: str, inner: str | None = None) -> Callable[[Path], list[tuple]]:
    def read(data: Path) -> list[tuple]:
        rows = [json.loads(line) for line in (data / "train.jsonl").open(encoding="utf-8")]
        rows = [row[inner] if inner else row for row in rows]
        return [(row[first], row[second]) for row in rows]

    return read


def _padded(*columns: str) -> Callable[..., Iterator[Batch]]:
    return lambda tokenizer, *rest: padded(tokenizer, _rows(*columns), *rest)


TASKS = {
    "mlm_pretrain": (AutoModelForMaskedLM, masked, masked_loss),
    "clm_pretrain": (AutoModelForCausalLM, causal, causal_loss),
    "translation": (AutoModelForSeq2SeqLM, _padded("en", "de", "translation"), paired_loss),
    "summarization": (AutoModelForSeq2SeqLM, _padded("document", "summary"), paired_loss),
    "sentiment": (AutoModelForSequenceClassification, _padded("text", "label"), class_loss),
}


def load(
    task: str, model: str, data: Path, rows: int, length: int
) -> tuple[Any, Iterator[Batch], Callable]:
    """Returns the model and its batches, on a GPU where there is one, and the loss function."""
    kind, read, loss_of = TASKS[task]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = kind.from_pretrained(model, dtype=torch.float32).to(device)
    batches = read(AutoTokenizer.from_pretrained(model), data, rows, length)
    return (
        network,
        ({name: values.to(device) for name, values in batch.items()} for batch in batches),
        loss_of,
    )


def operations(
    task: str, network: Any, batches: Iterator[Batch], loss_of: Callable, rows: int
) -> float:
    """Returns the floating-point operations of a row, forward and backward.

    What causal attention leaves out is counted, too.
    """
    counted = 1 if task.endswith("pretrain") else COUNTED
    with FlopCounterMode(display=False) as counter:
        for _ in range(counted):
            loss_of(network, next(batches)).backward()
    network.zero_grad()
    return counter.get_total_flops() / (counted * rows)


def main(
    task: str, model: str, data: Path, steps: int, rows: int, length: int, bf16: bool = True
) -> None:
    """Train so many steps."""
    network, batches, loss_of = load(task, model, data, rows, length)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-5, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, steps)
    precision = torch.autocast(network.device.type, torch.bfloat16) if bf16 else nullcontext()
    network.train()
    with precision:
        flops = operations(task, network, batches, loss_of, rows)
    finish = torch.cuda.synchronize if network.device.type == "cuda" else lambda: None
    finish()
    began = time.perf_counter()
    for _ in range(steps):
        with precision:
            loss = loss_of(network, next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    finish()
    seconds = time.perf_counter() - began
    print(json.dumps({"train_samples_per_second": steps * rows / seconds, "flops": flops}))


if __name__ == "__main__":
    typer.run(main)
