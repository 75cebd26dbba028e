"""The command lines of people's reports, each as a process of its own.

    python tests/reported.py
    python tests/reported.py --every 2 --first 1
    python tests/reported.py --only kaggle --verbose

A report is a line for the shell, its exit code, and words that its output must hold. Each line runs in a folder of its
own beside tiny data and models. `recipes` is cli.py. No report may end in a traceback, and a refusal takes three lines
at most.
"""

import gzip
import json
import lzma
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch
import typer
from conftest import ROOT, merged
from huggingface import save_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

TINY = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32"
DECODER = f"{TINY},num_key_value_heads=2,max_position_embeddings=64"
BRIEF = "--max_steps 4 --per_device_train_batch_size 4 --output_dir out"
REVIEWS = "recipes finetune sentiment --train_file reviews.csv"
SENTIMENT = f"{REVIEWS} --model_name_or_path bert {BRIEF}"
OWN = f"recipes finetune sentiment --model_name_or_path bert {BRIEF} --train_file"
LABELLED = "recipes finetune token_classification"
MLM = f"recipes pretrain mlm --model_type bert --config_overrides {TINY} {BRIEF} --train_file"
CLM = f"recipes pretrain clm --config_overrides {DECODER} {BRIEF} --block_size 16 --train_file"
MIXTRAL = f"{DECODER},num_local_experts=2,output_router_logits=true"
EPOCHS = "--eval_strategy epoch --save_strategy epoch"
EVALUATIONS = "grep -cH eval_loss out/checkpoint-24/trainer_state.json"


class Report(NamedTuple):
    """A line for the shell, how it must end, and what it must say."""

    name: str
    code: int
    says: str
    line: str


REPORTS = [
    # Checkpoints
    Report("gamma and beta", 0, "head ", f"{REVIEWS} --model_name_or_path gamma {BRIEF} {EPOCHS}"),
    Report("body, predict", 2, "no head", "recipes predict body 'the soup was good'"),
    Report("body, training", 0, "new", f"{REVIEWS} --model_name_or_path body {BRIEF}"),
    Report("body, evaluation", 2, "", f"{REVIEWS} --model_name_or_path bert --do_train false --do_eval {BRIEF}"),
    Report("not a number", 2, "not finite", "recipes predict nan 'the soup was good'"),
    Report("no tokenizer, predict", 2, "--tokenizer_name", "recipes predict notok 'the soup was good'"),
    Report("no tokenizer, training", 2, "--tokenizer_name", f"{REVIEWS} --model_name_or_path notok {BRIEF}"),
    Report("no tokenizer, named", 0, "", f"{REVIEWS} --model_name_or_path notok --tokenizer_name bert {BRIEF}"),
    Report("tokenizer.json alone", 0, "", f"{REVIEWS} --model_name_or_path alone {BRIEF}"),
    Report("lora, predict elsewhere", 0, "tive", f"{SENTIMENT} --lora_rank 4 && mkdir x && cd x && recipes predict ../out 'the soup was good'"),
    Report("lora, evaluated", 0, "accuracy", f"{SENTIMENT} --lora_rank 4 && {REVIEWS} --model_name_or_path out --do_train false --do_eval --output_dir evaluated"),
    Report("lora, trained further", 0, "", f"{SENTIMENT} --lora_rank 4 && {REVIEWS} --model_name_or_path out --max_steps 4 --output_dir further"),
    Report("an empty text", 0, "", "recipes predict classifier ''"),
    # Models and their sizes
    Report("an encoder as a causal model", 2, "sees the tokens", f"{CLM} text.txt --model_type bert --config_overrides {TINY}"),
    Report("code", 0, "100.0%", f"{CLM} code.txt --model_type llama"),
    Report("a list of end tokens", 0, "", f"recipes pretrain clm --config_name ends --tokenizer_name gpt2 {BRIEF} --block_size 16 --train_file text.txt"),
    Report("a router", 0, "", f"{CLM} text.txt --model_type mixtral --config_overrides {MIXTRAL}"),
    Report("key-value heads", 0, "", f"{CLM} text.txt --model_type qwen3 --config_overrides {TINY.replace('heads=2', 'heads=4')},head_dim=4"),
    Report("a setting without a default", 0, "", f"{CLM} text.txt --model_type gpt2 --config_overrides n_embd=16,n_layer=1,n_head=2,n_inner=64"),
    Report("hidden_size 0", 2, "hidden_size", f"{MLM} text.txt --config_overrides hidden_size=0"),
    Report("a setting of the recipe's", 2, "num_labels", f"{SENTIMENT} --config_overrides num_labels=7"),
    Report("translation from scratch", 0, "", f"recipes finetune translation --model_type m2m_100 --config_overrides d_model=16,encoder_layers=1,decoder_layers=1,encoder_attention_heads=2,decoder_attention_heads=2,encoder_ffn_dim=32,decoder_ffn_dim=32 --source_lang en --target_lang ro --vocab_size 300 {BRIEF} --train_file pairs.json"),
    # Labels
    Report("vectors of 0 and 1", 0, "means the labels", f"{OWN} vectors.jsonl"),
    Report("several in a cell", 0, "food", f"{OWN} several.csv"),
    Report("stars", 0, "", f"{OWN} stars.csv"),
    Report("named stars", 0, "very_bad", f"{OWN} stars.csv --class_names very_bad,bad,fair,good,very_good"),
    Report("mapped labels", 0, "", f"{OWN} numbers.csv --label_map 0=bad,1=good"),
    Report("a wrong column", 2, "nope", f"{SENTIMENT} --label_column_name nope"),
    Report("a column called labels", 0, "", f"{OWN} labels.csv --text_column_name labels --label_column_name input_ids"),
    Report("worse than guessing", 0, "warning", f"{SENTIMENT} --max_steps 40 --learning_rate 1e-2 --validation_file swapped.csv"),
    # Steps, epochs, and what is continued
    Report("epochs of a stream", 0, "trainer_state.json:3", f"{REVIEWS} --model_name_or_path bert --per_device_train_batch_size 4 --output_dir out --streaming --num_train_epochs 3 {EPOCHS} && {EVALUATIONS}"),
    Report("no whole batch", 2, "batch", f"{REVIEWS} --model_name_or_path bert --output_dir out --dataloader_drop_last --per_device_train_batch_size 1000"),
    Report("-1 epochs", 2, "num_train_epochs", f"{REVIEWS} --model_name_or_path bert --num_train_epochs -1 --output_dir out"),
    Report("0 epochs", 2, "num_train_epochs", f"{REVIEWS} --model_name_or_path bert --num_train_epochs 0 --output_dir out"),
    Report("0 steps", 2, "max_steps", f"{SENTIMENT} --max_steps 0"),
    Report("corrected", 0, "", f"{SENTIMENT} --label_column_name nope; {SENTIMENT}"),
    Report("the same folder, other spellings", 0, "already complete", f"{SENTIMENT} && {SENTIMENT} --output_dir $PWD/out/"),
    Report("more steps", 2, "--resume_from_checkpoint", f"{SENTIMENT} && {SENTIMENT} --max_steps 8"),
    Report("more steps, continued", 0, "", f"{SENTIMENT} && {SENTIMENT} --max_steps 8 --output_dir more --resume_from_checkpoint out/checkpoint-4"),
    Report("another rate", 0, "", f"{SENTIMENT} && {SENTIMENT} --max_steps 8 --output_dir more --resume_from_checkpoint out/checkpoint-4 --learning_rate 1e-3 --allow_changed learning_rate"),
    Report("another rate, not allowed", 2, "learning_rate", f"{SENTIMENT} && {SENTIMENT} --max_steps 8 --output_dir more --resume_from_checkpoint out/checkpoint-4 --learning_rate 1e-3"),
    Report("jit checkpoint", 0, "enable_jit_checkpoint", f"{SENTIMENT} --enable_jit_checkpoint true"),
    # Saving and evaluating
    Report("save no", 0, "", f"{SENTIMENT} --save_strategy no"),
    Report("evaluate no", 0, "", f"{SENTIMENT} --eval_strategy no"),
    Report("save steps", 0, "", f"{SENTIMENT} --save_strategy steps --save_steps 2"),
    Report("save steps alone", 0, "checkpoint-2", f"{SENTIMENT} --save_steps 2 && ls out"),
    Report("f1", 0, "", f"{SENTIMENT} --metric_for_best_model f1"),
    Report("eval_f1", 0, "", f"{SENTIMENT} --metric_for_best_model eval_f1"),
    Report("acuracy", 2, "accuracy", f"{SENTIMENT} --metric_for_best_model acuracy"),
    Report("model alone", 0, "", f"{SENTIMENT} --save_only_model true"),
    # Encodings and kinds of files
    Report("cp1252", 2, "--encoding cp1252", f"{OWN} cp1252.csv"),
    Report("cp1252, said", 0, "", f"{OWN} cp1252.csv --encoding cp1252"),
    Report("utf-32", 0, "", f"{OWN} utf32.csv"),
    Report("one bad byte", 2, "UTF-8", f"{MLM} broken.txt"),
    Report("one bad byte, gb18030", 2, "gb18030", f"{MLM} broken.txt --encoding gb18030"),
    Report("Chinese", 0, "", f"{MLM} 中文.txt"),
    Report("kaggle", 0, "", f"{OWN} kaggle.csv --text_column_names v2 --label_column_name v1"),
    Report("tabs", 0, "", f"{OWN} tabs.csv"),
    Report("carriage returns", 0, "", f"{OWN} returns.csv"),
    Report("a key train", 0, "", f"{OWN} keyed.json"),
    Report("one line", 0, "", f"{CLM} line.txt --model_type llama"),
    Report("xz", 0, "", f"{OWN} reviews.csv.xz"),
    Report("gz", 0, "", f"{OWN} reviews.csv.gz"),
    Report("zip", 0, "", f"{OWN} reviews.zip"),
    Report("a folder", 0, "", f"{OWN} folder"),
    Report("markup", 1, "0", f"{OWN} markup.csv > log 2>&1; grep -c '<img' out/README.md"),
    Report("entities", 0, "", f"{LABELLED} --model_name_or_path bert {BRIEF} --train_file entities.conll"),
    # Packages and services
    Report("tensorboard", 0, "", f"{SENTIMENT} --report_to tensorboard"),
    Report("tb", 0, "", f"{SENTIMENT} --report_to tb"),
    Report("mlflow", 2, "mlflow", f"{SENTIMENT} --report_to mlflow"),
    Report("nobody", 2, "nobody", f"{SENTIMENT} --report_to nobody"),
    Report("push to hub", 2, "push_to_hub", f"{SENTIMENT} --push_to_hub"),
    # The environment
    Report("no home", 0, "", f"HOME=/dev/null {SENTIMENT}"),
    Report("head", 0, "", f"{SENTIMENT} | head -1 > /dev/null; test -f out/model.safetensors"),
    Report("an ASCII terminal", 0, "", f"LC_ALL=C PYTHONIOENCODING=ascii {MLM} 中文.txt"),
    Report("RANK left over", 2, "RANK", f"RANK=0 WORLD_SIZE=2 {SENTIMENT}"),
    Report("deepspeed alone", 0, "", f"{SENTIMENT} --deepspeed zero2 --bf16 false"),
    # Values that cannot be
    Report("a negative rate", 2, "learning_rate", f"{SENTIMENT} --learning_rate -1"),
    Report("label smoothing 2", 2, "label_smoothing_factor", f"{SENTIMENT} --label_smoothing_factor 2"),
    Report("a huge vocabulary", 2, "vocab_size", f"{MLM} text.txt --vocab_size 1000000000"),
    Report("a port that cannot be", 2, "--main_process_port", f"{SENTIMENT} --num_processes 2 --main_process_port 70000"),
    Report("no processes", 2, "--num_processes", f"{SENTIMENT} --num_processes 0"),
    Report("test rows without labels", 0, "get predictions, but no scores", f"{SENTIMENT} --test_file unlabelled.csv"),
    Report("an unknown algorithm", 2, "algorithm", "recipes tokenizer train text.txt --algorithm nope --output_dir tokenizer"),
    Report("a file as a folder", 2, "", "recipes predict classifier --file reviews.csv --output reviews.csv/x"),
    Report("numbers in YAML", 0, "", f"{SENTIMENT} --config nested.yaml"),
    Report("unknown optim_args", 2, "optim_args", f"{SENTIMENT} --optim_args foo=1"),
    Report("a debugger", 2, "--debug", f"{SENTIMENT} --debug underflow_overflow"),
    Report("a typing mistake", 2, "--learning_rate", f"{SENTIMENT} --learnin_rate 1e-3"),
]  # fmt: skip


def write_data(folder: Path) -> None:
    """Writes what the reports read: reviews as people have them, texts, pairs."""

    def write(name: str, text: str, encoding: str = "utf-8", ends: str = "\n") -> None:
        (folder / name).write_bytes(text.replace("\n", ends).encode(encoding))

    things = ("soup", "room", "film", "shop")
    words = {"positive": ("good", "great"), "negative": ("bad", "cold")}
    labels = ["negative" if number % 2 else "positive" for number in range(40)]
    texts = [
        f"the {things[number % 4]} number {number} was {words[label][number % 3 % 2]}"
        for number, label in enumerate(labels)
    ]
    rows = [*zip(texts, labels, strict=True)]
    table = "".join(f"{text},{label}\n" for text, label in rows)
    write("reviews.csv", f"text,label\n{table}")
    other = {"positive": "negative", "negative": "positive"}
    write(
        "swapped.csv", "text,label\n" + "".join(f"{text},{other[label]}\n" for text, label in rows)
    )
    write("cp1252.csv", f"text,label\n{table.replace('soup', 'très bon café')}", "cp1252")
    write("utf32.csv", f"text,label\n{table}", "utf-32")
    write("kaggle.csv", "v1,v2,,,\n" + "".join(f"{label},{text},,,\n" for text, label in rows))
    write("tabs.csv", f"text\tlabel\n{table.replace(',', chr(9))}")
    write("returns.csv", f"text,label\n{table}", ends="\r")
    write("markup.csv", f"text,label\n{table.replace('soup', '<img src=x>')}")
    write("unlabelled.csv", "text,label\n" + "".join(f"{text} too,\n" for text in texts))
    write("labels.csv", f"labels,input_ids\n{table}")
    write(
        "numbers.csv", "text,label\n" + "".join(f"{text},{n % 2}\n" for n, text in enumerate(texts))
    )
    write(
        "stars.csv",
        "text,label\n" + "".join(f"{text},{n % 5 + 1}\n" for n, text in enumerate(texts)),
    )
    topics = ('"food,service"', "food", "service", '"food,price"')
    write(
        "several.csv",
        "text,label\n" + "".join(f"{text},{topics[n % 4]}\n" for n, text in enumerate(texts)),
    )
    vectors = [{"text": text, "label": [1, 0, n % 2]} for n, text in enumerate(texts)]
    write("vectors.jsonl", "".join(json.dumps(row) + "\n" for row in vectors))
    records = [{"text": text, "label": label} for text, label in rows]
    write("keyed.json", json.dumps({"train": records}))
    pairs = [{"translation": {"en": text, "ro": text.upper()}} for text in texts]
    write("pairs.json", "".join(json.dumps(row) + "\n" for row in pairs))
    write("text.txt", "\n".join(texts * 4) + "\n")
    write("line.txt", " ".join(texts * 4))
    write("code.txt", "\n".join(f"def f{n}(x):\n    return x * {n}  # twice" for n in range(200)))
    write("中文.txt", "".join(f"第{n}碗汤很好喝，我们都很高兴。\n" for n in range(120)))
    whole = (folder / "中文.txt").read_bytes()
    (folder / "broken.txt").write_bytes(whole.replace(b"\n", b"\xff\n", 1))
    sentence = "".join(
        f"{word} {'B-THING' if word in things else 'O'}\n" for word in texts[0].split()
    )
    write("entities.conll", f"{sentence}\n" * 40)
    write(
        "nested.yaml",
        "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1e-5}\n",
    )
    data = (folder / "reviews.csv").read_bytes()
    (folder / "reviews.csv.xz").write_bytes(lzma.compress(data))
    (folder / "reviews.csv.gz").write_bytes(gzip.compress(data))
    with zipfile.ZipFile(folder / "reviews.zip", "w") as packed:
        packed.writestr("reviews.csv", data)
    (folder / "folder").mkdir()
    (folder / "folder/train.csv").write_bytes(data)


def write_models(folder: Path) -> None:
    """Writes tiny models as people have them: with old names, without a head or a tokenizer, broken."""
    texts = (folder / "text.txt").read_text("utf-8").splitlines()
    for name in ("bert", "gpt2"):
        save_model(folder / name, name, texts)
    config = AutoConfig.from_pretrained(folder / "bert", num_labels=2)
    for name in ("gamma", "body", "classifier", "nan", "notok", "alone"):
        (folder / name).mkdir()
        for path in (folder / "bert").glob("token*"):
            if name != "notok" and (name != "alone" or path.name == "tokenizer.json"):
                (folder / name / path.name).write_bytes(path.read_bytes())
        auto_class = AutoModel if name in ("gamma", "body") else AutoModelForSequenceClassification
        auto_class.from_config(config).save_pretrained(folder / name)
    rename_weights(folder / "gamma/model.safetensors")
    weights = load_file(folder / "nan/model.safetensors")
    weights["classifier.weight"][0, 0] = torch.nan
    save_file(weights, folder / "nan/model.safetensors", {"format": "pt"})
    AutoConfig.for_model(
        "gpt2", n_embd=16, n_layer=1, n_head=2, vocab_size=300, eos_token_id=[0, 2]
    ).save_pretrained(folder / "ends")


def rename_weights(path: Path) -> None:
    """Gives the weights of layer norms the names that bert-base-uncased has: gamma and beta."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, weight in load_file(path).items():
        for new_name, old_name in old.items():
            name = name.replace(new_name, old_name)
        renamed[name] = weight
    save_file(renamed, path, {"format": "pt"})


def judged(report: Report, code: int, said: str) -> str:
    """What is wrong with how a report ended, or an empty string."""
    if code != report.code:
        return f"exit code {code}, not {report.code}"
    if "Traceback (" in said:
        return "a traceback"
    if report.says not in said:
        return f"does not say {report.says!r}"
    message = f"\n{said.strip()}".rpartition("\nerror: ")[2]
    if code == 2 and len(message.splitlines()) > 3:
        return "more than three lines"
    return ""


def key_lines(report: Report, said: str) -> list[str]:
    """Returns the refusal, or else the last line that holds the words that the report must say."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    refusals = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    if report.code == 2 and refusals:
        return lines[refusals[-1] :]
    return [line for line in lines if report.says in line][-1:]


def without_repeats(line: str) -> str:
    """The line with each flag once in a command: its last value."""
    kept = []
    for part in re.split(r"( && | \| |; | > )", line):
        command, found, flags = part.partition(" --")
        kept += [command, *(f" {word}" for word in merged(*f"{found}{flags}".split()))]
    return "".join(kept)


def attempt(report: Report, folder: Path, number: int) -> tuple[str, str]:
    """What is wrong with how a report ends, and what it says."""
    own = folder / f"report-{number}"
    own.mkdir()
    for path in (folder / "given").iterdir():
        (own / path.name).symlink_to(path)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        ["bash", "-c", without_repeats(report.line)],
        cwd=own,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
        check=False,
    )
    said = ended.stdout.decode("utf-8", "replace")
    return judged(report, ended.returncode, said), said


def main(every: int = 1, first: int = 0, only: str = "", verbose: bool = False) -> None:
    """Run each report in turn, every N-th report, or those whose name holds a word."""
    began, bad = time.time(), 0
    chosen = [report for report in REPORTS[first::every] if only in report.name]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "given").mkdir()
        write_data(folder / "given")
        write_models(folder / "given")
        command = folder / "recipes"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/cli.py" "$@"\n')
        command.chmod(0o755)
        for number, report in enumerate(chosen):
            found, said = attempt(report, folder, number)
            bad += bool(found)
            print(f"{report.name}: {found or f'good, exit code {report.code}'}", flush=True)
            print(f"  $ {without_repeats(report.line)}", flush=True)
            shown = [said[-2000:]] if verbose or found else key_lines(report, said)
            print(*(f"  {line[:300]}" for line in shown), sep="\n", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} good, in {time.time() - began:.0f} s")
    raise typer.Exit(int(bad > 0 or not chosen))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    typer.run(main)
