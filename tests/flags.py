"""A fuzz over flags: every field of every recipe and of TrainingArguments, with five values each.

    python tests/flags.py
    python tests/flags.py --recipe sentiment --only warmup_steps --verbose
    python tests/flags.py --every 40
    python tests/flags.py --each --every 10

The values are: absent (null in a configuration), extreme, of the wrong type, empty, and contradictory (beside other
flags). Each goes through parsing, the start, and a run of two steps, in a process of its own. A trial is good when it
ends with exit code 0, 1, 2 or 74 and three lines at most, in time, without a traceback; what contradicts another flag
is refused, or said in a line that names it.
"""

import dataclasses
import os
import shutil
import sys
import tempfile
import time
import typing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
import typer
import yaml
from conftest import ROOT, load_recipe, merged
from forked import Case, import_all
from fuzz import in_child, take_time

RECIPES = sorted(path.parent.name for path in ROOT.glob("recipes/*/run.py"))
KINDS = ("absent", "extreme", "wrong type", "empty", "contradictory")
GOOD = {0, 1, 2, 74}
# Fields that decide what is run at all, or whose extreme value is a process for each of 512 cores.
LEFT_OUT = {
    "output_dir",
    "train_file",
    "torch_compile",
    "torch_compile_backend",
    "torch_compile_mode",
}
LEFT_OUT |= {"dataloader_num_workers", "preprocessing_num_workers", "overwrite_output_dir"}
UNSET = {
    "num_processes",
    "ddp_timeout",
    "logging_steps",
    "eval_strategy",
    "eval_steps",
    "save_strategy",
    "save_steps",
}
UNSET |= {
    "load_best_model_at_end",
    "save_total_limit",
    "num_train_epochs",
    "gradient_accumulation_steps",
}
UNSET |= {"dataloader_num_workers", "train_sampling_strategy"}
# What each flag contradicts: its value, and the flags beside which it means nothing.
CONTRADICTIONS = {
    "accelerator_config": '{"split_batches": true}',
    "activation_checkpointing_kwargs": '{"use_reentrant": false}',
    "adam_beta1": "0.8 --optim sgd",
    "adam_beta2": "0.8 --optim adafactor",
    "auto_find_batch_size": "true",
    "dataloader_in_order": "false",
    "dataloader_persistent_workers": "true",
    "dataloader_prefetch_factor": "2 --dataloader_num_workers 0",
    "dataset_config_name": "plain",
    "dataset_revision": "main",
    "debug": "underflow_overflow",
    "do_train": "false --do_eval false --do_predict false",
    "dtype": "bfloat16",
    "early_stopping_patience": "2 --eval_strategy no",
    "enable_jit_checkpoint": "true",
    "eval_delay": "1 --eval_strategy no",
    "eval_steps": "1 --eval_strategy epoch",
    "fp16": "true --use_cpu",
    "freeze_encoder": "true --lora_rank 4",
    "fsdp": "full_shard",
    "fsdp_config": '{"version": 2}',
    "generation_max_length": "5 --val_max_target_length 6",
    "generation_num_beams": "2 --num_beams 3",
    "global_batch_size": "7",
    "gradient_checkpointing_kwargs": '{"use_reentrant": false}',
    "greater_is_better": "false --save_strategy no",
    "hub_always_push": "true",
    "hub_model_id": "me/mine",
    "hub_private_repo": "true",
    "hub_revision": "main",
    "hub_strategy": "every_save --push_to_hub",
    "hub_token": "hf_x",
    "ignore_data_skip": "true",
    "ignore_mismatched_sizes": "true",
    "interim_eval_samples": "3 --predict_with_generate false",
    "label_names": "labels",
    "length_column_name": "size",
    "liger_kernel_config": '{"rope": true}',
    "load_best_model_at_end": "true --save_strategy no",
    "load_in_4bit": "true",
    "local_rank": "3",
    "logging_steps": "1 --logging_strategy no",
    "lora_alpha": "4",
    "lora_dropout": "0.1",
    "lora_target_modules": "q_proj",
    "lr_scheduler_kwargs": '{"num_cycles": 2} --lr_scheduler_type constant',
    "metric_for_best_model": "loss --save_strategy no",
    "model_revision": "v2",
    "model_type": "gpt2 --model_name_or_path nowhere/else",
    "num_beams": "2 --predict_with_generate false",
    "num_train_epochs": "2 --max_steps 2",
    "optim_args": "foo=1",
    "optim_target_modules": "all-linear",
    "per_device_train_batch_size": "4 --tokens_per_batch 100",
    "prepare_only": "true",
    "project": "mine",
    "push_to_hub": "true",
    "remove_splits": "unused",
    "report_to": "nobody",
    "run_name": "mine",
    "save_only_model": "true --save_strategy no",
    "save_steps": "1 --save_strategy epoch",
    "save_total_limit": "1 --save_strategy no",
    "shuffle_seed": "7",
    "sortish_sampler": "true",
    "test_split_name": "test",
    "tokenizer_algorithm": "char --tokenizer_name nowhere/else",
    "train_split_name": "train",
    "trackio_bucket_id": "x",
    "trackio_space_id": "x",
    "use_liger_kernel": "true",
    "val_max_target_length": "5 --predict_with_generate false",
    "validation_split_name": "dev",
    "validation_split_percentage": "20",
    "vocab_size": "300 --tokenizer_name nowhere/else",
    "warmup_steps": "1 --lr_scheduler_type constant",
}


@dataclass(frozen=True)
class Trial:
    """One field of one recipe with one value."""

    recipe: str
    field: str
    kind: str
    words: tuple[str, ...]

    def flags(self, folder: Path) -> list[str]:
        """The command line: two steps on tiny data, and the flags of the trial."""
        words = merged(*usual(self.recipe, folder), *self.words)
        if self.kind == "absent":
            Path("absent.yaml").write_text(yaml.safe_dump({self.field: None}), encoding="utf-8")
            words += ["--config", "absent.yaml"]
        return words


def usual(recipe: str, folder: Path) -> list[str]:
    """Two steps of a tiny model, without what a trial may want to set."""
    kept, words = True, []
    for word in Case(recipe).flags(folder, Path("out")):
        if word.startswith("--"):
            kept = word[2:] not in UNSET
        words += [word] if kept else []
    return [*words, "--max_steps", "2"]


def fields(recipe: str) -> dict[str, Any]:
    """Every field that may be set, and its type."""
    own = load_recipe(recipe).Arguments
    training = getattr(transformers, getattr(own, "training_arguments", "TrainingArguments"))
    found = {}
    for kind in (own, training):
        hints = typing.get_type_hints(kind)
        found |= {item.name: hints[item.name] for item in dataclasses.fields(kind) if item.init}
    return {name: hint for name, hint in found.items() if name not in LEFT_OUT}


def values(name: str, hint: Any) -> dict[str, list[str]]:
    """The words of a field's five values."""
    text, flag = str(hint), f"--{name}"
    number = "int" in text or "float" in text
    if "bool" in text and not number:
        extreme, wrong = "true", "perhaps"
    elif number:
        extreme, wrong = "1000000000000", "many"
    else:
        extreme, wrong = "x" * 5000, '{"a": [1'
    contradictory = CONTRADICTIONS.get(name, "-1" if number else "\\0")
    return {
        "absent": [],
        "extreme": [flag, extreme],
        "wrong type": [flag, wrong],
        "empty": [flag, ""],
        "contradictory": [flag, *split(contradictory)],
    }


def split(words: str) -> list[str]:
    """The words of a flag's value and of the flags after it; JSON keeps its blanks."""
    value, *others = words.split(" --")
    return [value, *(word for other in others for word in f"--{other}".split())]


def trials(recipes: list[str], only: str, each: bool = False) -> Iterator[Trial]:
    """Every trial; a field that all recipes share with one of them, in turn, or with `each`."""
    shared = {name for recipe in RECIPES for name in fields(recipe)}
    turns = {name: RECIPES[number % len(RECIPES)] for number, name in enumerate(sorted(shared))}
    for recipe in recipes:
        for name, hint in fields(recipe).items():
            own = sum(name in fields(other) for other in RECIPES) < len(RECIPES)
            chosen = own or each or only or len(recipes) == 1 or turns[name] == recipe
            if only not in ("", name) or not chosen:
                continue
            for kind, words in values(name, hint).items():
                yield Trial(recipe, name, kind, tuple(words))


def judged(trial: Trial, code: int, said: str) -> str:
    """What is wrong with how a trial ended, or an empty string."""
    lines = said.strip().splitlines() or [""]
    if "Timeout (" in said or code < 0:
        return f"hangs or dies ({code})"
    if code not in GOOD or "Traceback (" in said:
        return f"exit code {code}: {lines[-2:][0][:200]}"
    _, found, message = f"\n{said.strip()}".rpartition("\nerror: ")
    if code and (not found or len(message.splitlines()) > 3):
        return f"exit code {code}, and no three lines: {lines[-1][:200]}"
    told = any(trial.field in line for line in lines if line.startswith(("note: ", "warning: ")))
    if trial.kind == "contradictory" and trial.field in CONTRADICTIONS and not code and not told:
        return "accepted without a word"
    return ""


def attempt(trial: Trial, folder: Path, number: int) -> tuple[str, int, str]:
    """What is wrong with a trial, its exit code, and what it said."""
    own = folder / f"trial-{number}"
    own.mkdir()
    os.chdir(own)
    flags = trial.flags(folder)
    code = in_child(own, lambda: load_recipe(trial.recipe).main(flags))
    said = (own / "log").read_text(encoding="utf-8", errors="replace")
    os.chdir(folder)
    shutil.rmtree(own)
    return judged(trial, code, said), code, said


def warm_up(folder: Path) -> None:
    """Imports what whole runs import, so that the processes forked from this one need not."""
    for recipe in RECIPES:
        own = folder / f"whole-{recipe}"
        own.mkdir()
        code = in_child(own, lambda recipe=recipe: whole(recipe, folder))
        assert code == 0, (own / "log").read_text(encoding="utf-8")[-3000:]
        import_all((own / "modules").read_text(encoding="utf-8").split())


def whole(recipe: str, folder: Path) -> None:
    """A run without a trial, which may take its time, and the names of what it imported."""
    take_time()
    load_recipe(recipe).main(usual(recipe, folder))
    Path("modules").write_text("\n".join(sys.modules), encoding="utf-8")


def main(
    recipe: str = "",
    only: str = "",
    each: bool = False,
    every: int = 1,
    first: int = 0,
    verbose: bool = False,
) -> None:
    """Run each trial in turn or every N-th trial, of one recipe or of one field."""
    began, codes, bad = time.time(), Counter(), 0
    chosen = [*trials([recipe] if recipe else RECIPES, only, each)][first::every]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        warm_up(folder)
        for number, trial in enumerate(chosen):
            found, code, said = attempt(trial, folder, number)
            codes[code], bad = codes[code] + 1, bad + bool(found)
            if found or verbose:
                print(
                    f"{trial.recipe} --{trial.field}, {trial.kind}: {found or f'good, exit code {code}'}",
                    flush=True,
                )
            if verbose:
                print(said[-3000:])
    print(", ".join(f"exit code {code}: {count}" for code, count in sorted(codes.items())))
    print(f"{len(chosen) - bad} of {len(chosen)} good, in {time.time() - began:.0f} s")
    raise typer.Exit(int(bool(bad)))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    typer.run(main)
