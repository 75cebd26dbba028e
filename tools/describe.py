"""What a recipe is and which flags it has, read from the source without running it: no torch, no second."""

import ast
import importlib.util
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
)
USUAL += (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "warmup_steps",
)
USUAL += (
    "lr_scheduler_type",
    "weight_decay",
    "max_grad_norm",
    "label_smoothing_factor",
    "bf16",
    "fp16",
    "seed",
)
USUAL += (
    "eval_strategy",
    "save_strategy",
    "save_total_limit",
    "load_best_model_at_end",
    "metric_for_best_model",
)
USUAL += ("train_sampling_strategy", "resume_from_checkpoint", "report_to", "push_to_hub")


@dataclass(frozen=True)
class Flag:
    """One flag: its name, default as written in the source, and help sentence."""

    name: str
    default: str
    help: str


def docstring(run: Path) -> str:
    """The recipe's docstring."""
    return ast.get_docstring(_tree(run)) or ""


def presets(run: Path) -> dict[str, str]:
    """The recipe's configurations: file name -> the comment on its first line."""
    lines = {
        path.name: path.read_text(encoding="utf-8").partition("\n")[0]
        for path in run.parent.glob("*.yaml")
    }
    return {
        name: line.lstrip("# ")
        for name, line in sorted(lines.items(), key=lambda item: item[0] != "config.yaml")
    }


def flags(run: Path) -> dict[str, list[Flag]]:
    """The recipe's flags by group: the task's own, those shared by all recipes, the usual TrainingArguments."""
    shared = ROOT / "recipes/common/config/flags.py"
    inherited = _inherited(_bases(run).get("Arguments", []), _bases(shared))
    groups = {"This task": _classes(run).get("Arguments", [])}
    groups |= {
        name.removesuffix("Arguments"): found
        for name, found in _classes(shared).items()
        if name in inherited and found
    }
    spec = importlib.util.find_spec("transformers")
    if spec and spec.submodule_search_locations:
        training = _classes(Path(spec.submodule_search_locations[0]) / "training_args.py")[
            "TrainingArguments"
        ]
        known = {flag.name: flag for flag in training}
        title = (
            f"Training (the most used of TrainingArguments' {len(training)}; the others work too)"
        )
        groups[title] = [known[name] for name in USUAL if name in known]
    return groups | {
        "Launch (of python cli.py)": _classes(ROOT / "recipes/common/launch.py")["World"]
    }


def render(run: Path, width: int = 110) -> str:
    """The page that --help prints for a recipe."""
    name = run.parent.name
    verb = "pretrain" if name.endswith("_pretrain") else "finetune"
    lines = [
        docstring(run),
        "",
        f"Usage: python cli.py {verb} {name.removesuffix('_pretrain')} [FLAGS]",
        "",
        "Presets",
    ]
    lines += [
        f"  --config recipes/{name}/{file:<24} {comment}" for file, comment in presets(run).items()
    ]
    for title, found in flags(run).items():
        lines += ["", title]
        for flag in found:
            default = "" if flag.default in ("None", "''", "False") else f" [{flag.default}]"
            sentence = flag.help if len(flag.help) < width else flag.help.partition(". ")[0] + "."
            lines.append(f"  --{flag.name:<30} {sentence}{default}")
    return "\n".join(lines)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _classes(path: Path) -> dict[str, list[Flag]]:
    """Every dataclass of a module with the fields that have a help sentence."""
    found = {}
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef):
            fields = [
                item
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.value, ast.Call)
            ]
            found[node.name] = [flag for flag in map(_flag, fields) if flag]
    return found


def _bases(path: Path) -> dict[str, list[str]]:
    """Every class of a module with the names of those it is made of."""
    classes = [node for node in _tree(path).body if isinstance(node, ast.ClassDef)]
    return {
        node.name: [ast.unparse(base).rpartition(".")[2] for base in node.bases] for node in classes
    }


def _inherited(names: list[str], bases: dict[str, list[str]]) -> set[str]:
    """These classes and all that they are made of."""
    return {*names}.union(*(_inherited(bases.get(name, []), bases) for name in names))


def _flag(field: ast.AnnAssign) -> Flag | None:
    """A field made by `setting(default, help)` or by dataclasses' `field(default=…, metadata={"help": …})`."""
    keywords = {keyword.arg: keyword.value for keyword in field.value.keywords}
    arguments = field.value.args
    if len(arguments) > 1:
        default, sentence = arguments[0], arguments[-1]
    elif isinstance(keywords.get("metadata"), ast.Dict):
        metadata = keywords["metadata"]
        names = [key.value for key in metadata.keys if isinstance(key, ast.Constant)]
        default = keywords.get("default", ast.Constant(None))
        sentence = metadata.values[names.index("help")] if "help" in names else ast.Constant("")
    else:
        return None
    text = sentence.value if isinstance(sentence, ast.Constant) else ""
    return Flag(field.target.id, ast.unparse(default), str(text).replace("%%", "%"))
