"""The command line: a thin layer that builds the real command, prints it and runs it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent))

from recipes.common import launch
from recipes.common.runtime import guard, messages
from tools import describe

app = typer.Typer(
    help="Training recipes on transformers.Trainer.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=True,
)
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _names(incomplete: str) -> list[str]:
    return [name for name in launch.recipes() if name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="The recipe's name.", autocompletion=_names)]
Encoding = Annotated[
    str, typer.Option(help="Encoding of files that are not UTF-8 or UTF-16: gb18030, cp1252, …")
]
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
    """Fine-tune: `finetune sentiment --train_file reviews.csv …`; flags that are not of the launch go to run.py."""
    _train(context, name, "", dry_run)


@app.command(context_settings=PASS_ON)
def pretrain(context: typer.Context, name: Name = "", dry_run: DryRun = False) -> None:
    """Pretrain: `pretrain mlm …`; flags that are not of the launch go to run.py."""
    _train(context, name, "_pretrain", dry_run)


@app.command(context_settings=PASS_ON)
def prepare(context: typer.Context, name: Name = "", dry_run: DryRun = False) -> None:
    """Tokenise and pack before a training: `prepare mlm --prepared_dir prepared --train_file …`."""
    context.args.append("--prepare_only")
    _train(context, name, "_pretrain", dry_run)


def _train(context: typer.Context, name: str, suffix: str, dry_run: bool) -> None:
    if name in ("", "--help", "-h"):
        print(
            f"{context.command.help}\n\nUsage: python cli.py {context.info_name} NAME [--dry-run] [FLAGS]\n"
        )
        return list_recipes()
    recipe = launch.find(name, suffix)
    if {"--help", "-h"} & set(context.args):
        return print(describe.render(recipe))
    world, flags = launch.split(context.args)
    if world.slurm:
        return launch.write_slurm(recipe, flags, world, dry_run)
    raise typer.Exit(launch.run(launch.command(recipe, flags, world), dry_run))


@app.command()
def predict(
    folder: Annotated[str, typer.Argument(help="A trained folder.")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts, of pairs two at a time; without any, lines of standard input."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Read the texts from a file (txt csv tsv json jsonl parquet arrow xlsx)."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the answers there as jsonl.")] = None,
    encoding: Encoding = "",
    batch_size: Annotated[int, typer.Option("--batch_size", "--batch-size", min=1)] = 32,
    trust_remote_code: Annotated[bool, typer.Option("--trust_remote_code")] = False,
) -> None:
    """Answer new texts with a trained model: label, rate, fill masks, translate or summarize."""
    from tqdm import tqdm

    from recipes.common.data import readers
    from recipes.common.predict import open_folder

    path = readers.one(file, "--file", encoding) if file else None
    with readers.rows_to(output, path) as write:
        model = open_folder(folder, trust_remote_code)
        typed = texts or (line.rstrip("\r\n") for line in sys.stdin)
        asked = model.texts(path, encoding) if path else model.asked(typed, by_lines=not texts)
        for answer in tqdm(
            model.answers(asked, batch_size), "predicting", unit=" texts", delay=2, leave=False
        ):
            if output:
                write(answer)
            else:
                text = answer["text"]
                shown = messages.visible(text if isinstance(text, str) else " / ".join(text), 100)
                print(messages.visible_lines(describe_answer(answer)), shown, sep="\t")


@app.command()
def generate(
    folder: Annotated[str, typer.Argument(help="The folder of a causal language model.")],
    prompt: Annotated[
        list[str] | None, typer.Option(help="How the text begins; repeatable.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Read the prompts from a file, column text.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the texts there as jsonl.")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max_new_tokens", min=1)] = 100,
    min_new_tokens: Annotated[int, typer.Option("--min_new_tokens", min=0)] = 0,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0: always the most probable token.")
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option("--top_k", min=0, help="Draw among so many tokens (0: all).")
    ] = 50,
    top_p: Annotated[
        float, typer.Option("--top_p", min=0.0, max=1.0, help="Draw among this probability.")
    ] = 0.95,
    num_beams: Annotated[int, typer.Option("--num_beams", min=1)] = 1,
    repetition_penalty: Annotated[float, typer.Option("--repetition_penalty", min=0.1)] = 1.0,
    no_repeat_ngram_size: Annotated[int, typer.Option("--no_repeat_ngram_size", min=0)] = 0,
    num_return_sequences: Annotated[
        int, typer.Option("--num_return_sequences", min=1, help="Texts a prompt.")
    ] = 1,
    encoding: Encoding = "",
    forbidden_words: Annotated[
        Path | None,
        typer.Option(
            "--forbidden_words",
            help="A file, one word a line: their usual spellings are not written.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed writes the same texts.")] = 42,
    trust_remote_code: Annotated[bool, typer.Option("--trust_remote_code")] = False,
) -> None:
    """Write texts that go on from prompts."""
    from tools.generate import Settings, run

    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p} if temperature > 0 else {}
    settings = {
        **{
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": min_new_tokens,
            "do_sample": temperature > 0,
            **drawn,
        },
        **{"num_beams": num_beams, "repetition_penalty": repetition_penalty},
        **{
            "no_repeat_ngram_size": no_repeat_ngram_size,
            "num_return_sequences": num_return_sequences,
        },
    }
    run(
        Settings(
            folder,
            prompt or [],
            file,
            output,
            forbidden_words,
            seed,
            trust_remote_code,
            settings,
            encoding,
        )
    )


tokenizers = typer.Typer(help="Train tokenizers.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(tokenizers, name="tokenizer")


@tokenizers.command("train")
def train_tokenizer(
    paths: Annotated[
        list[str], typer.Argument(metavar="FILES", help="Texts (txt csv tsv json jsonl parquet …).")
    ],
    algorithm: Annotated[
        str | None,
        typer.Option(help="wordpiece, bpe, unigram or char (default: as the model's family does)."),
    ] = None,
    vocab_size: Annotated[int, typer.Option("--vocab_size", min=1)] = 8000,
    model_type: Annotated[
        str, typer.Option("--model_type", help="For which family: bert, gpt2, t5, …")
    ] = "gpt2",
    do_lower_case: Annotated[
        bool, typer.Option("--do_lower_case", help="Lower-case the texts.")
    ] = False,
    text_column_name: Annotated[str, typer.Option("--text_column_name")] = "text",
    encoding: Encoding = "",
    output_dir: Annotated[Path, typer.Option("--output_dir")] = Path("outputs/tokenizer"),
) -> None:
    """Train a tokenizer on texts and report how well it fits them."""
    from tools import tokenizer

    settings = tokenizer.Settings(vocab_size, model_type, algorithm, do_lower_case)
    found = tokenizer.train(paths, text_column_name, output_dir, settings, encoding)
    print(tokenizer.render(found, output_dir))


estimates = typer.Typer(
    help="What a training needs, before it is started.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(estimates, name="estimate")


@estimates.command("memory")
def estimate_memory(
    parameters: Annotated[
        list[float], typer.Argument(min=1, help="Sizes of the model: 125e6 1e9 7e9.")
    ],
    num_processes: Annotated[int, typer.Option("--num_processes", "--num-processes", min=1)] = 8,
) -> None:
    """Print the memory that weights, gradients and Adam take under each launcher."""
    from tools import estimate

    print(estimate.memory_table(parameters, num_processes))


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The new recipe's name.")],
    source: Annotated[
        str, typer.Option("--from", help="The recipe to copy.", autocompletion=_names)
    ],
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
    """An answer as a person reads it: the label and its score, the labels, or the numbers."""
    prediction = answer["prediction"]
    if isinstance(prediction, float):
        return f"{prediction:.4f}"
    if isinstance(prediction, dict):
        return ", ".join(f"{name} {number:.4f}" for name, number in prediction.items())
    if isinstance(prediction, list):
        return ", ".join(prediction) or "none"
    return f"{prediction}\t{answer['score']:.4f}" if "score" in answer else prediction


if __name__ == "__main__":
    guard.run_and_exit(app, outlives_reader=False)
