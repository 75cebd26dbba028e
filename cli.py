"""Builds the real command of a task, prints it and runs it: a thin command line."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent))

from recipes.common import launch
from recipes.common.config import facts
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
Output = Annotated[Path | None, typer.Option(help="Write the results there as jsonl.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust_remote_code")]
TextFile = Annotated[
    Path | None,
    typer.Option(help="Read the texts from a file (txt csv tsv json jsonl parquet arrow xlsx)."),
]
Prompts = Annotated[list[str] | None, typer.Option(help="The beginning of the text; repeatable.")]
PromptFile = Annotated[Path | None, typer.Option(help="Read the prompts from a file, column text.")]
MOST = facts.COUNT[1]
TEXTS = facts.BEAMS[1]  # the most texts of one prompt, and beams of one search
COLDEST = 1e-6  # a lower temperature chooses as 0 does; logits that are divided by it may overflow
Seed = Annotated[
    int,
    typer.Option(min=facts.SEED[0], max=facts.SEED[1], help="The same seed gives the same texts."),
]
Temperature = Annotated[
    float,
    typer.Option(min=0.0, max=1e6, help="0: always the most probable token."),
]
TopK = Annotated[
    int,
    typer.Option(
        "--top_k", min=0, max=MOST, help="Draw among this many most probable tokens (0: all)."
    ),
]
TopP = Annotated[
    float,
    typer.Option(
        "--top_p",
        min=0.0,
        max=1.0,
        help="Draw among the most probable tokens that together have this probability.",
    ),
]
MaxNewTokens = Annotated[int, typer.Option("--max_new_tokens", min=1, max=MOST)]
MinNewTokens = Annotated[int, typer.Option("--min_new_tokens", min=0, max=MOST)]
NoRepeat = Annotated[int, typer.Option("--no_repeat_ngram_size", min=0, max=MOST)]
Penalty = Annotated[float, typer.Option("--repetition_penalty", min=0.1, max=1000.0)]
NumReturnSequences = Annotated[
    int, typer.Option("--num_return_sequences", min=1, max=TEXTS, help="Texts per prompt.")
]
ForbiddenWords = Annotated[
    Path | None,
    typer.Option(
        "--forbidden_words",
        help="A file with one word per line; their usual spellings are not written.",
    ),
]


@app.command("list")
def list_recipes() -> None:
    """List the recipes."""
    for name, run in launch.recipes().items():
        sentence = describe.docstring(run).partition("\n\n")[0]
        print(*describe.entry(name, sentence, indent=22), sep="\n")


@app.command()
def show(name: Name) -> None:
    """Show what a recipe does, and its flags."""
    print(describe.render(launch.find(name, "_pretrain")))


@app.command(context_settings=PASS_ON)
def finetune(context: typer.Context, name: Name = "", dry_run: DryRun = False) -> None:
    """Fine-tune a model.

    For example: `finetune sentiment --train_file reviews.csv …`.
    Flags that do not describe the launch are passed to run.py.
    """
    _train(context, name, "", dry_run)


@app.command(context_settings=PASS_ON)
def pretrain(context: typer.Context, name: Name = "", dry_run: DryRun = False) -> None:
    """Pretrain a model.

    For example: `pretrain mlm --train_file texts.txt …`.
    Flags that do not describe the launch are passed to run.py.
    """
    _train(context, name, "_pretrain", dry_run)


@app.command(context_settings=PASS_ON)
def prepare(context: typer.Context, name: Name = "", dry_run: DryRun = False) -> None:
    """Tokenise and pack before a training.

    For example: `prepare mlm --prepared_dir prepared --train_file …`.
    """
    context.args.append("--prepare_only")
    _train(context, name, "_pretrain", dry_run)


def _train(context: typer.Context, name: str, suffix: str, dry_run: bool) -> None:
    if name in ("", "--help", "-h"):
        usage = f"python cli.py {context.info_name} NAME [--dry-run] [FLAGS]"
        print(describe.wrapped(context.command.help or ""), "", f"Usage: {usage}", "", sep="\n")
        list_recipes()
        return
    recipe = launch.find(name, suffix)
    if {"--help", "-h"} & set(context.args):
        print(describe.render(recipe))
        return
    world, flags = launch.split(context.args)
    if world.slurm:
        launch.write_slurm(recipe, flags, world, dry_run)
        return
    raise typer.Exit(launch.run(launch.command(recipe, flags, world), dry_run))


@app.command()
def predict(
    folder: Annotated[str, typer.Argument(help="A trained folder.")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts (for pairs, two each); default: the lines of standard input."),
    ] = None,
    file: TextFile = None,
    output: Output = None,
    encoding: Encoding = "",
    batch_size: Annotated[int, typer.Option("--batch_size", "--batch-size", min=1, max=MOST)] = 32,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Apply a trained model to new texts.

    It labels, rates, fills masks, translates or summarizes.
    """
    from tqdm import tqdm

    from recipes.common.data import found_files
    from recipes.common.predict.answer_file import rows_to
    from recipes.common.predict.opening import open_folder

    path = None
    if file:
        path = found_files.one(file, "--file", encoding)
    with rows_to(output, path) as write:
        model = open_folder(folder, trust_remote_code)
        if path:
            asked = model.texts(path, encoding)
        else:
            typed = texts or (line.rstrip("\r\n") for line in sys.stdin)
            asked = model.asked(typed, by_lines=not texts)
        answers = model.answers(asked, batch_size)
        for answer in tqdm(answers, "predicting", unit=" texts", delay=2, leave=False):
            if output:
                write(answer)
            else:
                print_answer(answer)


@app.command()
def generate(
    folder: Annotated[str, typer.Argument(help="The folder of a causal language model.")],
    prompt: Prompts = None,
    file: PromptFile = None,
    output: Output = None,
    max_new_tokens: MaxNewTokens = 100,
    min_new_tokens: MinNewTokens = 0,
    temperature: Temperature = 1.0,
    top_k: TopK = 50,
    top_p: TopP = 0.95,
    num_beams: Annotated[int, typer.Option("--num_beams", min=1, max=TEXTS)] = 1,
    repetition_penalty: Penalty = 1.0,
    no_repeat_ngram_size: NoRepeat = 0,
    num_return_sequences: NumReturnSequences = 1,
    encoding: Encoding = "",
    forbidden_words: ForbiddenWords = None,
    seed: Seed = 42,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Write texts that continue prompts."""
    from tools.generate import Settings, run

    model = _sampling(temperature, top_k, top_p)
    model |= {"max_new_tokens": max_new_tokens, "min_new_tokens": min_new_tokens}
    model |= {"num_beams": num_beams, "num_return_sequences": num_return_sequences}
    model |= {"repetition_penalty": repetition_penalty}
    model |= {"no_repeat_ngram_size": no_repeat_ngram_size}
    settings = Settings(
        folder=folder,
        prompts=prompt or [],
        file=file,
        output=output,
        forbidden_words=forbidden_words,
        seed=seed,
        trust_remote_code=trust_remote_code,
        model=model,
        encoding=encoding,
    )
    run(settings)


def _sampling(temperature: float, top_k: int, top_p: float) -> dict[str, Any]:
    """Returns the settings of transformers' generate() that say how a token is chosen."""
    if temperature >= COLDEST:
        return {"do_sample": True, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    return {"do_sample": False}


tokenizers = typer.Typer(help="Train tokenizers.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(tokenizers, name="tokenizer")


@tokenizers.command("train")
def train_tokenizer(
    paths: Annotated[
        list[str], typer.Argument(metavar="FILES", help="Texts (txt csv tsv json jsonl parquet …).")
    ],
    algorithm: Annotated[
        str | None,
        typer.Option(help="wordpiece, bpe, unigram or char (default: the model family's)."),
    ] = None,
    vocab_size: Annotated[
        int, typer.Option("--vocab_size", min=facts.VOCABULARY[0], max=facts.VOCABULARY[1])
    ] = 8000,
    model_type: Annotated[
        str, typer.Option("--model_type", help="The model family that uses it: bert, gpt2, t5, …")
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
    help="Estimate what a training needs.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(estimates, name="estimate")


@estimates.command("memory")
def estimate_memory(
    parameters: Annotated[
        list[float],
        typer.Argument(min=1, max=1e18, help="Sizes of the model: 125e6 1e9 7e9."),
    ],
    num_processes: Annotated[
        int, typer.Option("--num_processes", "--num-processes", min=1, max=MOST)
    ] = 8,
) -> None:
    """Print the memory that each launcher needs.

    It is the memory of weights, gradients and Adam's states.
    """
    from tools import estimate

    print(estimate.memory_table(parameters, num_processes))


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The new recipe's name.")],
    source: Annotated[
        str, typer.Option("--from", help="The recipe to copy.", autocompletion=_names)
    ],
    directory: Annotated[
        Path | None,
        typer.Option(help="Where to put it (default: this clone, or the current folder)."),
    ] = None,
) -> None:
    """Copy a recipe, to begin one of your own.

    The copy runs as it is.
    """
    from tools.new import new as copy_recipe

    here = Path.cwd()
    if directory is None:
        directory = launch.ROOT if here.is_relative_to(launch.ROOT) else here
    for path in copy_recipe(name, launch.find(source, "_pretrain"), directory):
        print(path.relative_to(here) if path.is_relative_to(here) else path)
    print(f"next: python -m pytest tests/recipes/test_{name}.py, then python recipes/{name}/run.py")


def print_answer(answer: dict[str, Any]) -> None:
    """Prints the prediction for a text, or for a pair of texts, and the text."""
    text = answer["text"]
    if not isinstance(text, str):
        text = " / ".join(text)
    prediction = messages.visible_lines(describe_answer(answer))
    print(prediction, messages.visible(text, 100), sep="\t")


def describe_answer(answer: dict[str, Any]) -> str:
    """Returns a prediction for a person to read: label and score, several labels, or numbers."""
    prediction = answer["prediction"]
    if isinstance(prediction, float):
        return f"{prediction:.4f}"
    if isinstance(prediction, dict):
        return ", ".join(f"{name} {number:.4f}" for name, number in prediction.items())
    if isinstance(prediction, list):
        return ", ".join(map(_one_label, prediction)) or "none"
    if "score" in answer:
        return f"{prediction}\t{answer['score']:.4f}"
    return prediction


def _one_label(label: str | dict[str, Any]) -> str:
    """Returns one of several labels. A label of words stands behind the words, in brackets."""
    return label if isinstance(label, str) else f"{label['text']} ({label['label']})"


def main() -> None:
    """Runs the command line, and ends the process with its exit code."""
    guard.run_and_exit(app, outlives_reader=False)


if __name__ == "__main__":
    main()
