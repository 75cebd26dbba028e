"""Damaged data, configurations and checkpoints: no traceback, no hang, no wrong success.

    python tests/fuzz.py --trials 2000 --seed 0
    python tests/fuzz.py --seed 0 --only 17

Each trial reads a damaged file in a process of its own, as a recipe does. It is good when it ends with one of the
project's own errors, or when what it read is what the file says.
"""

import faulthandler
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml
from conftest import ROOT, as_if_killed, load_recipe
from forked import Case, import_all, wait
from mutations import mutated
from seeds import FILES, KINDS, compress, rows_of, write

from recipes.common import runner
from recipes.common.checkpoints import atomic_folder, retention
from recipes.common.config import flags, parsing
from recipes.common.data.splits import Splits, load_splits
from recipes.common.data.validation_split import HELD_OUT
from recipes.common.report import learning_curves, run_record
from recipes.common.runtime import errors, guard, messages

SECONDS = 40  # of computing: a trial that takes longer hangs; usual ones take a second, on a busy host ten
PATIENCE = 180  # seconds on a machine that does other work, too
GOOD = {errors.COMPLETE, errors.FAILED, errors.REFUSED}
CHECKPOINT, OLDER = "checkpoint-18", "checkpoint-15"
BESIDE = {"en": "de", "de": "en"}
OWN = "adam_beta1: 0.9\nseed: 1\nreport_to: [none]\nbf16: false\nlr_scheduler_kwargs: {}\n"
CONFIGURED = {
    "sentiment": "train_file: data.csv\nclass_names: [negative, positive]\nmetric_name: f1\n",
    "clm_pretrain": "train_file: [data.txt]\nkeep_linebreaks: true\n",
    "translation": "train_file: data.jsonl\nsource_lang: en\ntarget_lang: de\n",
}
RESUMED = (Case("sentiment"), Case("clm_pretrain", order="streaming"), Case("translation"))


class Loaded(BaseException):
    """Ends a recipe after its first part, with what it had loaded."""


class Wrong(Exception):
    """Says that a trial ended as a success, but with a wrong result."""


@dataclass(frozen=True)
class Trial:
    """What was damaged and how, what is run then, and whether only a success will do."""

    what: str
    run: Callable[[], None]
    unharmed: bool = False


def loaded(recipe: str, flags: list[str]) -> tuple[Any, Any, Splits]:
    """The arguments and the splits of a recipe's first part."""
    start, parsed, module = runner.start, [], load_recipe(recipe)

    def stop_after(*arguments: Any, **options: Any) -> None:
        raise Loaded(load_splits(*arguments, **options))

    def remember(*arguments: Any) -> Any:
        parsed.extend(start(*arguments))
        return parsed

    module.load_splits, runner.start = stop_after, remember
    try:
        module.main(flags)
    except Loaded as ended:
        return *parsed, ended.args[0]
    raise Wrong("the recipe loads no data")


def check_rows(splits: Splits, name: str, path: Path) -> None:
    """Raises Wrong unless a split has the file's rows, at their places, all accounted for."""
    account, wanted = splits.accounting[name], rows_of(path)
    if account["read"] != account["used"] + sum(account["skipped"].values()) or account[
        "read"
    ] != len(wanted):
        raise Wrong(f"{account} of {len(wanted)} rows")
    rows = list(getattr(splits, name))
    if len(rows) != account["used"]:
        raise Wrong(f"{len(rows)} rows: {account}")
    held_out = list(splits.validation) if name == "train" and HELD_OUT in account["skipped"] else []
    for row in joined([*rows, *held_out], splits):
        check_row(row, wanted[row["row_id"]], splits)


def joined(rows: list[dict], splits: Splits) -> list[dict]:
    """Returns the rows; joins both parts of a row that is cut where the validation text begins."""
    found: dict[int, dict] = {}
    for row in rows:
        before = found.get(row["row_id"])
        if before and not splits.labels:
            row = row | {column: before[column] + row[column] for column in splits.texts}
        found[row["row_id"]] = row
    return list(found.values())


def check_row(row: dict, wanted: dict, splits: Splits) -> None:
    """Raises Wrong unless the texts and the label of one row are those of the file."""
    for column in {*splits.texts, splits.target} & wanted.keys():
        if row[column].rstrip("\r\n") != (wanted[column] or "").rstrip("\r\n"):
            raise Wrong(
                f"row {row['row_id']}, {column}: {row[column][:99]!r}, not {wanted[column]!r:.99}"
            )
    if splits.labels and splits.labels.kind == "single_label_classification" and row["labels"] >= 0:
        names, value = splits.labels.names, wanted["label"]
        if names[row["labels"]] != str(value).strip():
            raise Wrong(f"row {row['row_id']}: label {names[row['labels']]}, not {value}")


def data_trial(drawn: random.Random, made: Path) -> Trial:
    """A damaged data file as training, validation or test data of a recipe, also compressed, also streamed."""
    name = drawn.choice(list(FILES))
    recipe, flags, ending = FILES[name].recipe, list(FILES[name].flags), name.rpartition(".")[2]
    split, gz = drawn.choice(("train", "train", "validation", "test")), drawn.random() < 0.2
    content = write(name)
    if gz and drawn.random() < 0.5:
        what, content = mutated(drawn, compress(content), "binary")
    else:
        what, content = mutated(drawn, content, KINDS.get(ending, "text"))
        content = compress(content) if gz else content
    path = Path(f"{split}.{name}{'.gz' if gz else ''}")
    path.write_bytes(content)
    words = [*flags, "--output_dir", "out", "--do_train", "--do_eval", "--do_predict"]
    beside = f"{name[:-2]}{BESIDE[ending]}" if ending in BESIDE else ""
    if beside:  # the text that it translates is whole
        Path(f"{split}.{beside}").write_bytes(write(beside))
    if drawn.random() < 0.3:
        words += ["--streaming", "--validation_split_percentage", "30"]
    for other in ("train", split)[split == "train" :]:
        folder, prefix = (Path(), split) if other == split else (made, "whole")
        found = [path if other == split else folder / f"whole.{name}"]
        found += [folder / f"{prefix}.{beside}"] if beside else []
        words += [f"--{other}_file", *map(str, found)]

    def run() -> None:
        *_, splits = loaded(recipe, words)
        check_rows(splits, split, path)

    streamed = " streamed" if "--streaming" in words else ""
    return Trial(f"{split} data {path.name} of {recipe}{streamed}: {what}", run, what == "nothing")


def configuration_trial(drawn: random.Random, made: Path) -> Trial:
    """A damaged configuration; what is accepted is written to run.yaml, which says the same."""
    recipe = drawn.choice(("sentiment", "clm_pretrain", "translation"))
    source = made / f"{recipe}.yaml"
    what, content = mutated(drawn, source.read_bytes(), "yaml")
    path = Path("config.yaml")
    path.write_bytes(content)
    words = [str(path)] if drawn.random() < 0.5 else ["--config", str(path)]

    def run() -> None:
        try:
            arguments, training_arguments, _ = loaded(recipe, words)
        finally:
            if Path("pwned").exists():
                raise Wrong("a tag was executed")
        check_configuration(arguments, training_arguments, path, recipe)

    return Trial(f"configuration of {recipe}: {what}", run, what == "nothing")


def check_configuration(arguments: Any, training_arguments: Any, path: Path, recipe: str) -> None:
    """Every value is the file's, or the words of it where the flag takes a text (`no`); run.yaml repeats it."""
    content = path.read_bytes().decode("utf-8-sig")
    words = yaml.load(content, yaml.BaseLoader) or {}
    for key, value in (yaml.safe_load(content) or {}).items():
        name = key.replace("-", "_")
        found = (
            getattr(arguments, name, None)
            if hasattr(arguments, name)
            else getattr(training_arguments, name)
        )
        found = getattr(found, "value", found)
        if (
            value is not None
            and not name.startswith(("do_", "report_to"))
            and not (same(found, value) or found == words[key])
        ):
            raise Wrong(f"{key} is {found!r}, not {value!r}")
    script, run = ROOT / "recipes" / recipe / "run.py", Path("run.yaml")
    run.write_text(yaml.safe_dump(arguments.run.flags, allow_unicode=True), encoding="utf-8")
    again = parsing.parse(type(arguments), str(script), ["--config", str(run)])
    first, second = (
        flags.to_dict(*pair, str(script)) for pair in ((arguments, training_arguments), again)
    )
    for key in first | second:
        if first.get(key) != second.get(key) and first.get(key) == first.get(key):
            raise Wrong(f"run.yaml says {key} {second.get(key)!r}, not {first.get(key)!r}")


def same(found: Any, value: Any) -> bool:
    """Whether a flag's value is the file's, also where it is a list of one, or a number in words."""
    if isinstance(value, list):
        found = found if isinstance(found, list) else [found]
        return len(found) == len(value) and all(map(same, found, value))
    if isinstance(value, dict):
        return found in (value, json.dumps(value))
    if isinstance(found, list):
        return same(found[0], value) if len(found) == 1 else False
    try:
        return (
            found == value
            or str(found).lower() == str(value).lower()
            or float(found) == float(value)
        )
    except (TypeError, ValueError):
        return str(value).lower() in ("yes", "y", "t", "no", "n", "f") or isinstance(found, dict)


def passed_over_trial(drawn: random.Random, made: Path) -> Trial:
    """A damaged file of the newest checkpoint: the one before is found."""
    case = drawn.choice(RESUMED)
    what, path, before = damaged_copy(drawn, made / case.recipe / "out", [])
    wanted = CHECKPOINT if unchanged(path, before, path.read_bytes()) else OLDER

    def newest() -> None:
        found = retention.newest(Path("out"))
        if found is None or found.name != wanted:
            raise Wrong(f"the newest is {found}, not {wanted}")

    return Trial(f"{case.recipe}: {what}", newest)


def resumed_trial(drawn: random.Random, made: Path) -> Trial:
    """A damaged file in a folder whose run goes on, and a manifest that names it as it is."""
    case = drawn.choice(RESUMED)
    what, path, before = damaged_copy(drawn, made / case.recipe / "out", ["run.json", "run.yaml"])
    if path.is_relative_to(Path("out", CHECKPOINT)) and path.name != atomic_folder.MANIFEST:
        rewrite_manifest(Path("out", CHECKPOINT))
    unharmed, draws = path.read_bytes() == before, drawn.random() < 0.2
    return Trial(f"resuming {case.recipe}: {what}", lambda: resume(case, made, draws), unharmed)


def damaged_copy(drawn: random.Random, folder: Path, others: list[str]) -> tuple[str, Path, bytes]:
    """Copies a run's folder to out and damages a file of its newest checkpoint, or one of the others: what was done,
    the file, and its content before."""
    shutil.copytree(folder, "out")
    names = sorted(
        str(path.relative_to("out"))
        for path in Path("out", CHECKPOINT).rglob("*")
        if path.is_file()
    )
    path = Path("out", drawn.choice([*names, *others]))
    content = path.read_bytes()
    if path.suffix == ".safetensors" and drawn.random() < 0.5:
        what, after = damaged_header(drawn, content)
    else:
        what, after = mutated(drawn, content, KINDS.get(path.suffix[1:], "binary"))
    path.write_bytes(after)
    return f"{path}: {what}", path, content


def damaged_header(drawn: random.Random, content: bytes) -> tuple[str, bytes]:
    """A safetensors file whose JSON header is damaged and its length right."""
    end = 8 + int.from_bytes(content[:8], "little")
    what, header = mutated(drawn, content[8:end], "json")
    return f"the header, {what}" if what != "nothing" else what, len(header).to_bytes(
        8, "little"
    ) + header + content[end:]


def unchanged(path: Path, before: bytes, after: bytes) -> bool:
    """Whether a file says what it said before."""
    if path.name != atomic_folder.MANIFEST:
        return before == after
    try:
        return json.loads(before) == json.loads(after)
    except (ValueError, RecursionError):
        return False


def rewrite_manifest(folder: Path) -> None:
    """A manifest of the files as they are."""
    names = [
        path for path in folder.rglob("*") if path.is_file() and path.name != atomic_folder.MANIFEST
    ]
    entries = {str(path.relative_to(folder)): atomic_folder.entry(path) for path in names}
    (folder / atomic_folder.MANIFEST).write_text(
        json.dumps({"files": entries}, indent=2), encoding="utf-8"
    )


def resume(case: Case, made: Path, draws: bool) -> None:
    """The run goes on to its end; its plots would take longer than all else."""
    if not draws:
        learning_curves.draw = lambda *_: []
    load_recipe(case.recipe).main(case.flags(made, Path("out")))
    _, facts = run_record.earlier(Path("out"))
    if facts["status"] != "complete":
        raise Wrong("the run is not complete")


def in_child(folder: Path, run: Callable[[], None]) -> int:
    """The exit code of a function that is called in a process of its own, in this folder, its words in folder/log."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return wait(child)
    try:
        os.chdir(folder)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        faulthandler.enable(log)
        faulthandler.register(signal.SIGPROF, log, chain=True)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=log)
        guard.run_and_exit(run)
        os._exit(0)
    except SystemExit as ended:
        os._exit(int(ended.code or 0))
    finally:
        os._exit(99)


def take_time() -> None:
    """Lifts the limits of `in_child`: who imports everything first may need longer."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    faulthandler.cancel_dump_traceback_later()


def make(folder: Path) -> None:
    """Whole data files, configurations, and runs that were killed after a checkpoint."""
    for name in FILES:
        (folder / f"whole.{name}").write_bytes(write(name))
    (folder / "data.csv").write_bytes(write("reviews.csv"))
    (folder / "data.txt").write_bytes(write("running.txt"))
    (folder / "data.jsonl").write_bytes(write("nested.jsonl"))
    for recipe, own in CONFIGURED.items():
        text = (ROOT / "recipes" / recipe / "config.yaml").read_text(encoding="utf-8")
        lines = [
            line for line in text.splitlines() if "_file:" not in line and "_lang:" not in line
        ]
        own = own.replace("data.", f"{folder}/data.")
        (folder / f"{recipe}.yaml").write_text("\n".join([own + OWN, *lines]), encoding="utf-8")
    for case in RESUMED:
        made = folder / case.recipe
        made.mkdir()
        code = in_child(made, lambda case=case: run_whole(case, folder))
        assert code == 0, (made / "log").read_text(encoding="utf-8")[-3000:]
        import_all((made / "modules").read_text(encoding="utf-8").split())
        as_if_killed(made / "out", CHECKPOINT, OLDER)


def run_whole(case: Case, folder: Path) -> None:
    """A run that may take its time, and the names of what it imported."""
    take_time()
    load_recipe(case.recipe).main(case.flags(folder, Path("out")))
    Path("modules").write_text("\n".join(sys.modules), encoding="utf-8")


def attempt(number: int, seed: int, folder: Path) -> tuple[str, str, int, str]:
    """One trial: what it was, what is wrong with how it ended, its exit code, and what it said."""
    drawn, own = random.Random(f"{seed}-{number}"), folder / f"trial-{number}"
    own.mkdir()
    os.chdir(own)
    kinds = (
        data_trial,
        data_trial,
        configuration_trial,
        passed_over_trial if number % 8 == 3 else resumed_trial,
    )
    trial = kinds[number % 4](drawn, folder)
    code = in_child(own, trial.run)
    said = (own / "log").read_text(encoding="utf-8", errors="replace")
    found = judged(code, said, trial.unharmed)
    os.chdir(folder)
    shutil.rmtree(own)
    return trial.what, found, code, said


def judged(code: int, said: str, unharmed: bool) -> str:
    """What is wrong with how a trial ended, or an empty string."""
    lines = said.strip().splitlines() or [""]
    if "Timeout (" in said or code == -signal.SIGPROF:
        _, _, main_thread = said.rpartition("(most recent call first)")
        return f"hangs: {' | '.join(line.strip() for line in main_thread.splitlines()[1:5])}"
    if "Traceback (" in said or code not in GOOD:
        _, _, trace = said.rpartition("Traceback (")
        last = next(
            (line for line in trace.splitlines()[1:] if line and not line.startswith(" ")),
            lines[-1],
        )
        return f"exit code {code}: {last[:300]}"
    _, found, message = f"\n{said.strip()}".rpartition("\nerror: ")
    message = message.splitlines() if found else []
    if code and (not message or len(message) > 3):
        return f"exit code {code} with {len(message)} lines: {lines[-1]}"
    return f"refused, although nothing was changed: {message}" if code and unharmed else ""


def attempts(
    numbers: list[int], seed: int, folder: Path
) -> Iterator[tuple[int, str, str, int, str]]:
    """Every trial with its number."""
    make(folder)
    for number in numbers:
        yield number, *attempt(number, seed, folder)


def main(
    trials: int = 2000, seed: int = 0, first: int = 0, only: int = -1, verbose: bool = False
) -> None:
    """So many trials: half of them of data files, a quarter of configurations, a quarter of checkpoints."""
    began, codes, failures = time.time(), Counter(), 0
    numbers = [only] if only >= 0 else list(range(first, trials))
    with tempfile.TemporaryDirectory() as name:
        for number, what, found, code, said in attempts(numbers, seed, Path(name).resolve()):
            codes[code], failures = codes[code] + 1, failures + bool(found)
            if found or verbose or only >= 0:
                ended = found or f"good, exit code {code}"
                print(
                    f"--seed {seed} --only {number}: {messages.visible(what)}: {ended}", flush=True
                )
            print(said[-5000:] if only >= 0 else "", end="")
    print(", ".join(f"exit code {code}: {count}" for code, count in sorted(codes.items())))
    print(
        f"{len(numbers) - failures} of {len(numbers)} good, {(time.time() - began) / len(numbers):.2f} s each"
    )
    raise typer.Exit(int(bool(failures)))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    typer.run(main)
