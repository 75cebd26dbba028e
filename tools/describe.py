"""Reads from a recipe's source what it does and which flags it has.

It does not run the recipe: so it needs no torch, and less than a second.
"""

import ast
import importlib.util
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path

from recipes.common.launch import ROOT

# The TrainingArguments that most runs set; the others work as well.
USUAL = (
    "output_dir",
    "do_train",
    "do_eval",
    "do_predict",
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "warmup_steps",
    "lr_scheduler_type",
    "weight_decay",
    "max_grad_norm",
    "label_smoothing_factor",
    "bf16",
    "fp16",
    "seed",
    "eval_strategy",
    "save_strategy",
    "save_total_limit",
    "load_best_model_at_end",
    "metric_for_best_model",
    "train_sampling_strategy",
    "resume_from_checkpoint",
    "report_to",
    "push_to_hub",
)


LONG_HELP = 110  # characters; of a longer help, the first sentence is shown


@dataclass(frozen=True)
class Flag:
    """Holds a flag's name, its default and choices as the source writes them, and its help."""

    name: str
    default: str
    help: str
    choices: str = ""


def docstring(run: Path) -> str:
    """Returns the recipe's docstring."""
    return ast.get_docstring(_tree(run)) or ""


def presets(run: Path) -> dict[str, str]:
    """Returns the comment on the first line of each of the recipe's configurations.

    The keys are the file names; config.yaml is the first.
    """
    paths = sorted(run.parent.glob("*.yaml"), key=_by_default_first)
    found = {}
    for path in paths:
        line = path.read_text(encoding="utf-8").partition("\n")[0]
        found[path.name] = line.lstrip("# ")
    return found


def _by_default_first(path: Path) -> bool:
    return path.name != "config.yaml"


def flags(run: Path) -> dict[str, list[Flag]]:
    """Returns the recipe's flags by group.

    The groups are the task's own flags, those shared by all recipes, the usual TrainingArguments,
    and the flags of the launch.
    """
    shared = ROOT / "recipes/common/config/flags.py"
    inherited = _inherited(_bases(run).get("Arguments", []), _bases(shared))
    groups = {"This task": _classes(run).get("Arguments", [])}
    for name, found in _classes(shared).items():
        if name in inherited and found:
            groups[name.removesuffix("Arguments")] = found
    spec = importlib.util.find_spec("transformers")
    if spec and spec.submodule_search_locations:
        source = Path(spec.submodule_search_locations[0]) / "training_args.py"
        known = {flag.name: flag for flag in _classes(source)["TrainingArguments"]}
        title = f"Training (the most used of {len(known)} TrainingArguments)"
        groups[title] = [known[name] for name in USUAL if name in known]
    groups["Launch (of python cli.py)"] = _classes(ROOT / "recipes/common/launch.py")["World"]
    return groups


def render(run: Path) -> str:
    """Returns the page that --help prints for a recipe, as wide as the terminal."""
    name = run.parent.name
    verb = "pretrain" if name.endswith("_pretrain") else "finetune"
    usage = f"Usage: python cli.py {verb} {name.removesuffix('_pretrain')} [FLAGS]"
    lines = [wrapped(docstring(run)), "", usage, "", "Presets"]
    for file, comment in presets(run).items():
        lines += entry(f"  --config recipes/{name}/{file}", comment)
    for title, found in flags(run).items():
        lines += ["", title]
        for flag in found:
            lines += entry(f"  --{flag.name}", _explained(flag))
    return "\n".join(lines)


def wrapped(text: str) -> str:
    """Returns a text with its paragraphs as wide as the terminal; commands stay as they are."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        if not paragraph.startswith(" "):
            paragraph = textwrap.fill(paragraph, shutil.get_terminal_size().columns)
        paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


def entry(name: str, text: str, indent: int = 34) -> list[str]:
    """Returns the lines of a name and its text, which is wrapped in a column of its own.

    In a narrow terminal, and behind a long name, the text stands below the name.
    """
    width = shutil.get_terminal_size().columns
    if width < 80:
        indent = 6
    lines = textwrap.wrap(text, width, initial_indent=" " * indent, subsequent_indent=" " * indent)
    if not lines or len(name) + 2 > indent:
        return [name, *lines]
    return [name + lines[0][len(name) :], *lines[1:]]


def _explained(flag: Flag) -> str:
    """Returns the help of a flag with its choices and its default."""
    text = flag.help
    if len(text) >= LONG_HELP:
        text = text.partition(". ")[0].removesuffix(".") + "."
    if flag.choices:
        text += f" Choices: {flag.choices}."
    if flag.default not in ("None", "''", "False"):
        text += f" [{flag.default}]"
    return text


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _classes(path: Path) -> dict[str, list[Flag]]:
    """Returns the flags that every dataclass of a module declares."""
    found = {}
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = list(filter(None, map(_flag, node.body)))
    return found


def _bases(path: Path) -> dict[str, list[str]]:
    """Returns the names of the base classes of every class of a module."""
    found = {}
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = list(map(_last_name, node.bases))
    return found


def _last_name(base: ast.expr) -> str:
    return ast.unparse(base).rpartition(".")[2]


def _inherited(names: list[str], bases: dict[str, list[str]]) -> set[str]:
    """Returns these classes and all classes that they inherit from."""
    found = {*names}
    for name in names:
        found |= _inherited(bases.get(name, []), bases)
    return found


def _flag(field: ast.stmt) -> Flag | None:
    """Returns the flag that a statement of a dataclass declares; None where it declares none.

    A flag is a field made by `setting(default, help, …)`, by the launcher's
    `_flag(default, type, help)`, or by dataclasses' `field(default=…, metadata={"help": …})`.
    """
    if not isinstance(field, ast.AnnAssign) or not isinstance(field.value, ast.Call):
        return None
    keywords = {keyword.arg: keyword.value for keyword in field.value.keywords}
    arguments = field.value.args
    metadata = keywords.get("metadata")
    if len(arguments) > 1:
        default, sentence = arguments[0], next(filter(_is_text, arguments[1:]), None)
    elif isinstance(metadata, ast.Dict):
        default = keywords.get("default", ast.Constant(None))
        sentence = _value(metadata, "help")
    else:
        return None
    text = sentence.value if isinstance(sentence, ast.Constant) else ""
    choices = ""
    if isinstance(keywords.get("choices"), ast.List):
        choices = ", ".join(ast.literal_eval(keywords["choices"]))
    return Flag(field.target.id, ast.unparse(default), str(text).replace("%%", "%"), choices)


def _is_text(argument: ast.expr) -> bool:
    """Whether an argument is a text in quotes."""
    return isinstance(argument, ast.Constant) and isinstance(argument.value, str)


def _value(literal: ast.Dict, key: str) -> ast.expr | None:
    """Returns the value of a key in the source of a dictionary."""
    for name, value in zip(literal.keys, literal.values, strict=True):
        if isinstance(name, ast.Constant) and name.value == key:
            return value
    return None
