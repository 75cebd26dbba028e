"""The inside of recipes/common in numbers: as it stands, or beside earlier commits.

python tests/measurements.py
python tests/measurements.py b3e3d30 HEAD

A line of code is one that is neither empty nor a comment nor part of a docstring. Packages are the folders of
recipes/common; modules that lie in none of them count as a package each.
"""

import ast
import io
import subprocess
import tempfile
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
COMMON = "recipes.common"
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LONG_MODULE, LONG_FUNCTION = 300, 40


@dataclass(frozen=True)
class Module:
    """One file of recipes/common."""

    name: str  # as it is imported, behind "recipes.common."
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text)

    @property
    def package(self) -> str:
        """The folder that it lies in, or the module itself."""
        return self.name.split(".")[0]

    @cached_property
    def code(self) -> list[str]:
        """Its lines of code, with their indentation."""
        left_out = set(_docstring_lines(self.tree)) | _comment_lines(self.text)
        lines = enumerate(self.text.splitlines(), 1)
        return [line.rstrip() for number, line in lines if line.strip() and number not in left_out]

    def nodes(self, *kinds: type) -> list[ast.AST]:
        """The parts of its tree that are of these kinds."""
        return [node for node in ast.walk(self.tree) if isinstance(node, kinds)]

    def imports(self, known: set[str]) -> set[str]:
        """The modules of recipes/common that it imports, at its top or within a function."""
        found = set()
        for node in self.nodes(ast.ImportFrom):
            if not (node.module or "").startswith(COMMON):
                continue
            base = node.module.removeprefix(COMMON).strip(".")
            for one in node.names:
                inner = f"{base}.{one.name}".strip(".")
                found.add(inner if inner in known else base)
        return found & known - {self.name}


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(
            node, clean=False
        ):
            yield from range(node.body[0].lineno, node.body[0].end_lineno + 1)


def _comment_lines(text: str) -> set[int]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    return {token.start[0] for token in comments if token.line.strip().startswith("#")}


def read(root: Path) -> list[Module]:
    """The modules of a tree's recipes/common."""
    folder = root / COMMON.replace(".", "/")
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found.append(Module(name, path.read_text(encoding="utf-8")))
    return found


def circles(edges: dict[str, set[str]]) -> int:
    """How many groups of nodes reach each other in circles (Tarjan 1972 finds the same groups)."""
    reached = {node: _reached(node, edges) for node in edges}
    groups = {
        frozenset(other for other in reached[node] if node in reached[other]) for node in edges
    }
    return sum(len(group) > 0 for group in groups)


def _reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    found, left = set(), [*edges[start]]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += edges[node]
    return found


def floors(edges: dict[str, set[str]]) -> int:
    """The number of nodes of the longest chain of imports; 0 where there is a circle."""
    if circles(edges):
        return 0
    heights: dict[str, int] = {}

    def height(node: str) -> int:
        if node not in heights:
            heights[node] = 1 + max(map(height, edges[node]), default=0)
        return heights[node]

    return max(map(height, edges))


def overrides(modules: list[Module]) -> set[str]:
    """The methods of transformers' Trainer that classes of ours replace."""
    from transformers import Seq2SeqTrainer

    classes = [node for module in modules for node in module.nodes(ast.ClassDef)]
    ours = {"Trainer", "Seq2SeqTrainer"}
    while (
        more := {node.name for node in classes if {_last(base) for base in node.bases} & ours}
        - ours
    ):
        ours |= more
    chosen = [node for node in classes if node.name in ours]
    methods = {item.name for node in chosen for item in node.body if isinstance(item, FUNCTIONS)}
    return {name for name in methods if name in dir(Seq2SeqTrainer) and not name.startswith("__")}


def _last(node: ast.expr) -> str:
    return ast.unparse(node).split(".")[-1].split("[")[0]


def private_names(modules: list[Module]) -> set[str]:
    """Names with an underscore that are used and that no module of ours gives: those of libraries."""
    own = set()
    for module in modules:
        own |= {node.name for node in module.nodes(ast.ClassDef, *FUNCTIONS)}
        own |= {node.id for node in module.nodes(ast.Name) if isinstance(node.ctx, ast.Store)}
        own |= {node.attr for node in module.nodes(ast.Attribute) if _is_set_by_self(node)}
    used = {node.attr for module in modules for node in module.nodes(ast.Attribute)}
    used |= {
        one.name
        for module in modules
        for node in module.nodes(ast.ImportFrom)
        for one in node.names
    }
    used |= {name for module in modules for name in _asked_for(module)}
    used |= {node.arg for module in modules for node in module.nodes(ast.keyword) if node.arg}
    return {name for name in used - own if name.startswith("_") and not name.startswith("__")}


ASKING = ("getattr", "hasattr", "setattr")


def _asked_for(module: Module) -> Iterator[str]:
    """The names that getattr, hasattr and setattr are called with."""
    for node in module.nodes(ast.Call):
        is_call = isinstance(node.func, ast.Name) and node.func.id in ASKING
        if is_call and isinstance(node.args[1], ast.Constant):
            yield node.args[1].value


def _is_set_by_self(node: ast.Attribute) -> bool:
    return (
        isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def _bare_any(module: Module) -> int:
    """How many arguments, results and variables may be anything."""
    kinds = [node.annotation for node in module.nodes(ast.arg, ast.AnnAssign)]
    kinds += [node.returns for node in module.nodes(*FUNCTIONS)]
    return sum(isinstance(kind, ast.Name) and kind.id == "Any" for kind in kinds)


def measure(modules: list[Module]) -> dict[str, str]:
    """What is counted -> the count, as the table shows it."""
    names = {module.name for module in modules}
    between = {module.name: module.imports(names) for module in modules}
    packages: dict[str, set[str]] = {module.package: set() for module in modules}
    for module in modules:
        packages[module.package] |= {name.split(".")[0] for name in between[module.name]} - {
            module.package
        }
    functions = [node for module in modules for node in module.nodes(*FUNCTIONS)]
    long = [node for node in functions if node.end_lineno - node.lineno + 1 > LONG_FUNCTION]
    lines = [line for module in modules for line in module.code]
    replaced = overrides(modules)
    private = {name for name in replaced if name.startswith("_")}

    def per_hundred(*kinds: type) -> str:
        return f"{100 * sum(len(module.nodes(*kinds)) for module in modules) / len(lines):.1f}"

    return {
        "modules": f"{len(modules)}",
        "packages": f"{len(packages)}",
        "lines of code": f"{len(lines):,}",
        "floors of packages": f"{floors(packages)}",
        "imports between packages": f"{sum(map(len, packages.values()))}",
        "imports between modules": f"{sum(map(len, between.values()))}",
        "circles of packages": f"{circles(packages)}",
        "circles of modules": f"{circles(between)}",
        f"modules over {LONG_MODULE} lines": f"{sum(len(one.text.splitlines()) > LONG_MODULE for one in modules)}",
        f"functions over {LONG_FUNCTION} lines": f"{len(long)}",
        "mean line of code, characters": f"{mean(map(len, lines)):.1f}",
        "comprehensions per 100 lines": per_hundred(*COMPREHENSIONS),
        "conditional expressions per 100 lines": per_hundred(ast.IfExp),
        "overridden methods of Trainer": f"{len(replaced)}",
        "of them private": f"{len(private)}",
        "private names of libraries": f"{len(private_names(modules) | private)}",
        "bare Any": f"{sum(map(_bare_any, modules))}",
    }


def at(commit: str, folder: Path) -> Path:
    """The tree of a commit, written under the folder."""
    archive = subprocess.run(
        ["git", "archive", commit, "recipes"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    (folder / commit).mkdir()
    subprocess.run(["tar", "x", "-C", str(folder / commit)], input=archive, check=True)
    return folder / commit


def main(
    commits: Annotated[
        list[str] | None, typer.Argument(help="Commits beside the files as they are.")
    ] = None,
):
    """One column for each commit, and one for the files as they stand."""
    with tempfile.TemporaryDirectory() as name:
        columns = {commit: measure(read(at(commit, Path(name)))) for commit in commits or []}
    columns["now"] = measure(read(ROOT))
    typer.echo(" " * 40 + "".join(f"{title:>10}" for title in columns))
    for row in columns["now"]:
        typer.echo(f"{row:<40}" + "".join(f"{values[row]:>10}" for values in columns.values()))


if __name__ == "__main__":
    typer.run(main)
