"""The command line: a thin layer that builds the real command, prints it and runs it."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent))

from recipes.common import errors, launch
from tools import describe

app = typer.Typer(
    help="Training recipes on transformers.Trainer.", no_args_is_help=True, rich_markup_mode=None, add_completion=True
)
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _names(incomplete: str) -> list[str]:
    return [name for name in launch.recipes() if name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="The recipe's name.", autocompletion=_names)]
DryRun = Annotated[bool, typer.Option("--dry-run", "--dry_run", help="Print the command only.")]


@app.command("list")
def list_recipes() -> None:
    """List the recipes."""
    for name, run in launch.recipes().items():
        print(f"{name:<16} {describe.docstring(run).partition(chr(10))[0]}")


@app.command()
def show(name: Name) -> None:
    """Show a recipe: what it does, its presets, its flags."""
    print(describe.render(launch.find(name, "_pretrain")))


@app.command(context_settings=PASS_ON)
def finetune(context: typer.Context, name: Name = "", dry_run: DryRun = False) -> None:
    """Fine-tune: `finetune sentiment --train_file reviews.csv …`; every flag goes on to the recipe's run.py."""
    _train(context, name, "", dry_run)


@app.command(context_settings=PASS_ON)
def pretrain(context: typer.Context, name: Name = "", dry_run: DryRun = False) -> None:
    """Pretrain: `pretrain mlm …`; every flag goes on to the recipe's run.py."""
    _train(context, name, "_pretrain", dry_run)


def _train(context: typer.Context, name: str, suffix: str, dry_run: bool) -> None:
    asks_help = bool({"--help", "-h"} & {name, *context.args})
    if name in ("", "--help", "-h"):
        print(f"{context.command.help}\n\nUsage: python cli.py {context.info_name} NAME [--dry-run] [FLAGS]\n")
        list_recipes()
    elif asks_help:
        print(describe.render(launch.find(name, suffix)))
    else:
        raise typer.Exit(launch.run(launch.command(launch.find(name, suffix), context.args), dry_run))


@app.command()
def predict(
    folder: Annotated[str, typer.Argument(help="A trained folder.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; without any, one a line of standard input.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Read the texts from a file (txt csv tsv json jsonl parquet).")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the answers there as jsonl.")] = None,
    batch_size: Annotated[int, typer.Option("--batch_size", "--batch-size", min=1)] = 32,
    trust_remote_code: Annotated[bool, typer.Option("--trust_remote_code")] = False,
) -> None:
    """Answer new texts with a trained model."""
    from tqdm import tqdm

    from recipes.common import files
    from recipes.common.predict import Classifier

    path = files.expand([str(file)], "--file")[0] if file else None
    classifier = Classifier(folder, trust_remote_code)
    asked = classifier.texts(path) if path else texts or (line.rstrip("\r\n") for line in sys.stdin)
    stream = output.open("w", encoding="utf-8") if output else sys.stdout
    for answer in tqdm(classifier.answers(asked, batch_size), "predicting", unit=" texts", delay=2, leave=False):
        if output:
            stream.write(json.dumps(answer, ensure_ascii=False) + "\n")
        else:
            print(describe_answer(answer), errors.visible(str(answer["text"]), 100), sep="\t")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The new recipe's name.")],
    source: Annotated[str, typer.Option("--from", help="The recipe to copy.", autocompletion=_names)],
    directory: Annotated[
        Path | None, typer.Option(help="Where (default: this clone, or the folder you are in).")
    ] = None,
) -> None:
    """Begin a recipe of your own as a copy that runs as it stands."""
    from tools.new import new as copy_recipe

    inside = Path.cwd().is_relative_to(launch.ROOT)
    directory = directory or (launch.ROOT if inside else Path.cwd())
    for path in copy_recipe(name, launch.find(source, "_pretrain"), directory):
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    print(f"next: python -m pytest tests/test_{name}.py, then python recipes/{name}/run.py")


def describe_answer(answer: dict) -> str:
    """An answer as a person reads it: the label and its score, the labels, or the number."""
    prediction = answer["prediction"]
    if isinstance(prediction, float):
        return f"{prediction:.4f}"
    return f"{prediction}\t{answer['score']:.4f}" if "score" in answer else ", ".join(prediction) or "none"


if __name__ == "__main__":
    errors.guard(app)
