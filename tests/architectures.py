"""Every architecture of five Auto classes, as small as it gets: trained for two steps, evaluated, and asked once.

python tests/architectures.py                      all of them: a table with what is refused, and why; minutes
python tests/architectures.py clm_pretrain:bert    one, with all that it says
"""

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import torch
import transformers
import typer
from conftest import ROOT, load_recipe, row
from forked import import_all, wait
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from recipes.common.predict.continuing import Continuer
from recipes.common.predict.opening import open_folder
from recipes.common.report import learning_curves
from recipes.common.runtime import errors, guard, messages

# The recipe that trains the models of an Auto class, and how transformers calls the list of them.
TASKS = {
    "mlm_pretrain": ("MaskedLM", "MASKED_LM"),
    "clm_pretrain": ("CausalLM", "CAUSAL_LM"),
    "translation": ("Seq2SeqLM", "SEQ_TO_SEQ_CAUSAL_LM"),
    "token_classification": ("TokenClassification", "TOKEN_CLASSIFICATION"),
    "sentiment": ("SequenceClassification", "SEQUENCE_CLASSIFICATION"),
}
LARGEST = 20_000_000  # weights: what is larger with these sizes is not tried
PATIENCE = 120  # seconds
ROWS = 60
# The sizes that a setting gets where its default is larger.
SIZES = {
    1: "n_group topk_group num_nextn_predict_layers first_k_dense_replace",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers moe_topk moe_k "
    "num_encoder_layers type_vocab_size num_experts_per_tok num_experts_per_token",
    4: "num_attention_heads num_heads n_head n_heads encoder_attention_heads decoder_attention_heads num_experts "
    "num_encoder_attention_heads num_decoder_attention_heads num_local_experts n_routed_experts moe_num_experts",
    8: "head_dim d_kv rotary_dim v_head_dim qk_nope_head_dim qk_rope_head_dim linear_key_head_dim kv_lora_rank "
    "linear_value_head_dim q_lora_rank",
    16: "mamba_chunk_size attention_window",
    32: "entity_emb_size hidden_size d_model n_embd dim emb_dim embedding_size d_embed word_embed_proj_dim "
    "embedding_dim",
    48: "intermediate_size ffn_dim d_ff hidden_dim encoder_ffn_dim decoder_ffn_dim d_inner ffn_hidden_size "
    "moe_intermediate_size shared_expert_intermediate_size",
    64: "max_position_embeddings n_positions max_encoder_position_embeddings max_decoder_position_embeddings",
    512: "entity_vocab_size char_vocab_size vocab_size_per_layer_input",
}
SIZE_OF = {name: size for size, names in SIZES.items() for name in names.split()}
# Layers of two kinds, the second of which comes late.
DEEPER = (
    "qwen3_next",
    "qwen3_5_text",
    "qwen3_5_moe_text",
    "jamba",
    "recurrent_gemma",
    "lfm3",
    "bailing_hybrid",
)
SLOW = ("falcon_h1", "kimi_linear")  # minutes a step without kernels for a GPU
LONGEST = {
    "clm_pretrain": ["--block_size"],
    "translation": ["--max_source_length", "--max_target_length"],
}


@dataclass(frozen=True)
class Found:
    """What became of an architecture: the exit code of its run and its questions, and what they said."""

    task: str
    name: str
    code: int
    seconds: float
    said: str

    @property
    def wrong(self) -> str:
        """What is wrong with how it ended; nothing where it was trained and answered, or refused in three lines."""
        if "Traceback (" in self.said or self.code not in (errors.COMPLETE, errors.REFUSED):
            _, _, trace = self.said.rpartition("Traceback (")
            last = [
                line
                for line in trace.splitlines()[1:]
                if line and not line.startswith((" ", "error:"))
            ]
            return f"exit code {self.code}: {(last or ['no traceback'])[-1]}"
        message = self.said.rpartition("\nerror: ")[2].strip().splitlines()
        if self.code == errors.REFUSED and len(message) != 3:
            return f"refused in {len(message)} lines"
        return ""

    @property
    def outcome(self) -> str:
        """One line for the table."""
        if self.wrong or not self.code:
            return self.wrong or "trained, evaluated, answered"
        return f"refused: {re.findall('^error: (.*)', self.said, re.MULTILINE)[-1]}"


def names(task: str) -> list[str]:
    """The architectures that the task's Auto class knows."""
    return sorted(getattr(modeling_auto, f"MODEL_FOR_{TASKS[task][1]}_MAPPING_NAMES"))


def sizes_of(name: str) -> dict[str, int]:
    """The settings that make an architecture tiny; none for one without a default configuration."""
    try:
        values = CONFIG_MAPPING[name]().to_dict()
    except Exception:  # each architecture raises its own
        return {}
    found = {
        key: SIZE_OF[key] for key, value in values.items() if key in SIZE_OF and type(value) is int
    }
    tiny = {key: size for key, size in found.items() if values[key] > size}
    return {key: 8 if "layers" in key and name in DEEPER else size for key, size in tiny.items()}


def weights(task: str, name: str) -> int:
    """How many weights such a model has, built without them; 0 where it cannot be built, which the recipe is to say."""
    auto_class = getattr(transformers, f"AutoModelFor{TASKS[task][0]}")
    try:
        with torch.device("meta"):
            model = auto_class.from_config(CONFIG_MAPPING[name](**sizes_of(name)))
    except Exception:
        return 0
    return sum(weight.numel() for weight in model.parameters())


def flags(task: str, name: str, folder: Path) -> list[str]:
    """Two steps, longer texts than the model has positions for, and where a test set belongs to it an empty text."""
    data, overrides = (
        folder / f"{task}.jsonl",
        ",".join(f"{key}={size}" for key, size in sizes_of(name).items()),
    )
    words = [
        "--train_file",
        str(data),
        "--validation_file",
        str(data),
        "--output_dir",
        "out",
        "--model_type",
        name,
    ]
    words += ["--test_file", str(folder / "test.jsonl")] if task == "sentiment" else []
    words += ["--source_lang", "en", "--target_lang", "de"] if task == "translation" else []
    words += [word for flag in LONGEST.get(task, ["--max_seq_length"]) for word in (flag, "100")]
    words += ["--config_overrides", overrides] if overrides else []
    words += "--vocab_size 300 --max_steps 2 --max_train_samples 40 --max_eval_samples 8".split()
    words += (
        "--per_device_train_batch_size 4 --bf16 false --logging_steps 1 --warmup_steps 0"
    ).split()
    words += "--eval_strategy steps --eval_steps 2 --save_strategy steps --save_steps 2".split()
    return [*words, "--load_best_model_at_end", "false", "--disable_tqdm", "true"]


def train_and_ask(task: str, name: str, folder: Path) -> None:
    """Trains and asks a model as a person does; draws no plots: they take longer than all else."""
    learning_curves.draw = lambda *_: []
    load_recipe(task).main(flags(task, name, folder))
    if task == "clm_pretrain":
        writer = Continuer("out")
        for prompt in ("the soup", ""):
            writer.check(prompt, {"max_new_tokens": 4})
            writer.write(prompt, {"max_new_tokens": 4})
        return
    model = open_folder("out")
    texts = (
        [f"the soup {model.tokenizer.mask_token}"]
        if task == "mlm_pretrain"
        else ["the soup was good", ""]
    )
    if len(list(model.answers(texts))) != len(texts):
        raise ValueError("not every text has an answer")


def attempt(task: str, name: str, folder: Path) -> Found:
    """An architecture, tried in a process of its own."""
    began, own = time.time(), folder / f"{task}-{name}"
    if name in SLOW or weights(task, name) > LARGEST:
        return Found(
            task,
            name,
            errors.REFUSED,
            0.0,
            "\nerror: not tried, too large or slow\n  where: here\n  fix: none",
        )
    own.mkdir()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _in_child(task, name, folder, own)
    code = wait(child)
    found = Found(
        task,
        name,
        code,
        time.time() - began,
        (own / "log").read_text(encoding="utf-8", errors="replace"),
    )
    if not code:
        import_all(
            (own / "modules").read_text(encoding="utf-8").split() if (task, name) in FIRST else []
        )
    shutil.rmtree(own)
    return found


FIRST = [
    ("mlm_pretrain", "bert"),
    ("clm_pretrain", "gpt2"),
    ("translation", "t5"),
    ("sentiment", "bert"),
    ("token_classification", "bert"),
]


def _in_child(task: str, name: str, folder: Path, own: Path) -> NoReturn:
    try:
        torch.set_num_threads(1)
        log = os.open(own / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.alarm(PATIENCE)
        os.chdir(own)
        guard.run_and_exit(lambda: train_and_ask(task, name, folder))
        Path("modules").write_text("\n".join(sys.modules), encoding="utf-8")
        os._exit(0)
    except SystemExit as ended:
        sys.stdout.flush()
        os._exit(int(ended.code or 0))
    finally:
        os._exit(99)


def write_data(folder: Path) -> None:
    """A file of rows for each task, every second one longer than the models have positions for."""
    for task in TASKS:
        rows = [longer(row(task, number), number) for number in range(ROWS)]
        lines = [json.dumps(values) + "\n" for values in rows]
        (folder / f"{task}.jsonl").write_text("".join(lines), encoding="utf-8")
    lines[1] = json.dumps(rows[1] | {"text": ""}) + "\n"
    (folder / "test.jsonl").write_text("".join(lines[:8]), encoding="utf-8")


def longer(values: dict[str, Any], number: int) -> dict[str, Any]:
    """A row with texts of many times their length, where its number is even."""
    if "translation" in values:
        return {"translation": longer(values["translation"], number)}
    times = 1 if number % 2 else 12
    found = {}
    for key, value in values.items():
        found[key] = value * times if isinstance(value, list) else " ".join([value] * times)
    if "label" in values:
        found["label"] = values["label"]
    return found


def attempts(cases: list[tuple[str, str]], processes: int = 2) -> Iterator[Found]:
    """Every case, so many at a time, in their order. One of each task goes first, alone: what it imports all others
    have."""
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write_data(folder)
        for case in FIRST:
            if case[0] in {task for task, _ in cases}:
                attempt(*case, folder)
        with ThreadPoolExecutor(processes) as pool:
            yield from pool.map(lambda case: attempt(*case, folder), cases)


def main(wanted: Annotated[list[str] | None, typer.Argument()] = None, processes: int = 2) -> None:
    """A table of all architectures, of those of some tasks or names, or of single ones (clm_pretrain:bert)."""
    began, codes = time.time(), Counter()
    cases = [(task, name) for task in TASKS for name in names(task)]
    if wanted:
        cases = [case for case in cases if {*case, ":".join(case)} & {*wanted}]
    for found in attempts(cases, processes):
        kind = "wrong" if found.wrong else found.outcome.partition(":")[0].partition(",")[0]
        codes["not tried" if "not tried" in found.outcome else kind] += 1
        print(
            f"{found.task} | {found.name} | {found.seconds:.1f} s | {messages.visible(found.outcome)}",
            flush=True,
        )
        print(found.said if len(cases) == 1 else "", end="")
    print(f"{dict(codes)}, {time.time() - began:.0f} s")
    raise typer.Exit(int(bool(codes["wrong"])))


if __name__ == "__main__":
    os.chdir(ROOT)
    typer.run(main)
