"""Hugging Face's own tests, with this repository's Trainer and recipes in place of theirs.

    python tests/huggingface.py trainer --transformers ../transformers
    python tests/huggingface.py examples --transformers ../transformers

`--transformers` names a checkout of https://github.com/huggingface/transformers. Their tests of Trainer need two more
packages: `pip install parameterized sacremoses`.

`trainer` runs tests/trainer/test_trainer*.py twice: with their Trainer and with ours, and lists the tests that pass
with theirs only. Some differ on purpose: DIFFERENT says why. `examples` reads the command lines of
examples/pytorch/test_pytorch_examples.py and runs each one unchanged with the recipe of the same task. A tiny model
with random weights stands under the name of every model, so the scores mean nothing.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from conftest import ROOT
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)

from recipes.common.model.tokenizer_training import train_tokenizer

# Tests of Trainer that pass with theirs and fail with ours, and why.
DIFFERENT = {
    "test_logging_inf_nan_filter": "a loss that is not finite ends a run",
    "TrainerCallbackTest": "the list of callbacks holds ours",
    "test_trainer_checkpointing": "an epoch's checkpoint follows its evaluation; the newest stays",
}
# Names that the copies of transformers on the Hub and on PyPI do not share.
MISSING = ("GlueDataset,", "GlueDataTrainingArguments,")
CONFTEST = """
import os, sys
sys.path.insert(0, os.getcwd())
if os.environ.get("OURS"):
    import transformers, transformers.trainer
    sys.path.insert(0, {root!r})
    from recipes.common.train.trainer import Trainer
    transformers.trainer.Trainer = transformers.Trainer = Trainer
"""
BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
DISTILBERT = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
T5 = {
    "d_model": 16,
    "d_kv": 8,
    "num_heads": 2,
    "d_ff": 32,
    "num_layers": 1,
    "decoder_start_token_id": 0,
}
MARIAN = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32}
MARIAN |= {"decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
MARIAN |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1, "forced_eos_token_id": 1}
MARIAN |= {"decoder_start_token_id": 0}
# Tiny models by type: their class and sizes, but for the number of positions.
MODELS = {
    "bert": (AutoModelForMaskedLM, BERT),
    "distilbert": (AutoModelForMaskedLM, DISTILBERT),
    "gpt2": (AutoModelForCausalLM, {"n_embd": 16, "n_layer": 1, "n_head": 2}),
    "marian": (AutoModelForSeq2SeqLM, MARIAN),
    "roberta": (AutoModelForMaskedLM, BERT | {"pad_token_id": 1}),
    "t5": (AutoModelForSeq2SeqLM, T5),
}
# The setting that holds the number of positions; T5 has none.
POSITIONS = {"gpt2": "n_positions", "t5": ""}
# What the models' names mean: names that hold the word, in this order.
TYPES = {"distilbert-base": "distilbert", "gpt2": "gpt2", "roberta": "roberta", "bert": "bert"}
TYPES |= {"t5": "t5", "marian": "marian"}
RECIPES = {
    "run_clm": "clm_pretrain",
    "run_glue": "sentiment",
    "run_mlm": "mlm_pretrain",
    "run_ner": "token_classification",
    "run_summarization": "summarization",
    "run_translation": "translation",
}
app = typer.Typer(add_completion=False)


def save_model(folder: Path, model_type: str, texts: list[str], positions: int = 64) -> None:
    """Writes a tiny model of this type with random weights, and a tokenizer that is trained on the texts."""
    auto_class, sizes = MODELS[model_type]
    tokenizer = train_tokenizer(texts, "bpe", 300, model_type)
    length = POSITIONS.get(model_type, "max_position_embeddings")
    settings = {length: positions} if length else {}
    config = AutoConfig.for_model(model_type, vocab_size=len(tokenizer), **sizes, **settings)
    auto_class.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def command_lines(source: str) -> Iterator[list[str]]:
    """The command lines of test_pytorch_examples.py whose script has a recipe, with `{tmp_dir}` and `{epochs}`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            script, *flags = "".join(map(written, node.values)).split() or [""]
            if script.endswith(".py") and script.removesuffix(".py") in RECIPES:
                yield [script.removesuffix(".py"), *flags]


def written(part: ast.expr) -> str:
    """A part of an f-string as it is written: its text, or a variable in braces."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    return f"{{{ast.unparse(part.value)}}}"


def model_names(flags: list[str]) -> list[str]:
    """The models and tokenizers that a command line names."""
    named = zip(flags, flags[1:], strict=False)
    return [value for flag, value in named if flag in ("--model_name_or_path", "--tokenizer_name")]


def run_example(script: str, flags: list[str], folder: Path) -> tuple[int, str]:
    """Runs one command line as a process; its exit code, and what it said."""
    output_dir = folder / f"{script}-{len(list(folder.glob('run_*')))}"
    given = {"{tmp_dir}": str(output_dir), "{epochs}": "2"}
    words = []
    for word in flags:
        flag, equals, value = word.partition("=")
        words.append(given.get(flag, flag) + equals + given.get(value, value))
    command = [sys.executable, str(ROOT / "recipes" / RECIPES[script] / "run.py"), *words]
    ended = subprocess.run(
        [*command, "--use_cpu"], cwd=folder, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout + ended.stderr


@app.command()
def examples(transformers: Annotated[Path, typer.Option()]) -> None:
    """Run the command lines of their tests of the example scripts."""
    source = (transformers / "examples/pytorch/test_pytorch_examples.py").read_text("utf-8")
    found = list(command_lines(source))
    assert found, "no command line: the file has another form"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(transformers / "tests/fixtures", folder / "tests/fixtures")
        texts = (folder / "tests/fixtures/sample_text.txt").read_text("utf-8").splitlines()
        for script, *flags in found:
            for model in model_names(flags):
                model_type = next(kind for word, kind in TYPES.items() if word in model)
                save_model(folder / model, model_type, texts, positions=600)
            code, said = run_example(script, flags, folder)
            print(f"exit code {code}: {script} {' '.join(flags)}", flush=True)
            if code:
                print("\n".join(said.strip().splitlines()[-3:]))


def run_trainer_tests(folder: Path, ours: bool) -> dict[str, str]:
    """The outcome of each of their tests of Trainer by its name."""
    tests = sorted(str(path) for path in (folder / "tests/trainer").glob("test_trainer*.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OURS": "1" if ours else ""}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    lines = re.findall(r"^(PASSED|FAILED|ERROR) (\S+)", ended.stdout, re.MULTILINE)
    if not lines:
        print(ended.stdout[-3000:] + ended.stderr[-3000:])
    return {name: outcome for outcome, name in lines}


def why(name: str) -> str:
    """Why a test passes with their Trainer only, or an empty string."""
    return next((reason for word, reason in DIFFERENT.items() if word in name), "")


@app.command()
def trainer(transformers: Annotated[Path, typer.Option()]) -> None:
    """Run their tests of Trainer with theirs and with ours; exit code 1 where one differs without a reason."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("trainer", "fixtures"):
            shutil.copytree(transformers / "tests" / part, folder / "tests" / part)
        (folder / "tests/__init__.py").touch()
        (folder / "conftest.py").write_text(CONFTEST.format(root=str(ROOT)), encoding="utf-8")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        evaluation = folder / "tests/trainer/test_trainer_evaluation.py"
        lines = evaluation.read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.strip() not in MISSING]
        evaluation.write_text("".join(kept), encoding="utf-8")
        theirs, ours = run_trainer_tests(folder, False), run_trainer_tests(folder, True)
    passed = {name for name, outcome in theirs.items() if outcome == "PASSED"}
    failed = sorted(name for name in passed if ours.get(name) != "PASSED")
    print(
        f"{len(passed)} of {len(theirs)} pass with their Trainer, {len(passed) - len(failed)} of these with ours"
    )
    for test in failed:
        print(f"{test}: {why(test) or 'NO REASON IS KNOWN'}")
    raise typer.Exit(int(not passed or not all(map(why, failed))))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    app()
