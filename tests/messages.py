"""Every message that a person may read, with its place: refusals, warnings and notes.

    python tests/messages.py
    python tests/messages.py --kind Refusal

A part that is known only at run time stands in braces, as in the code.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import typer

ROOT = Path(__file__).resolve().parents[1]
CODE = ("recipes/**/*.py", "tools/**/*.py", "cli.py")
KINDS = ("Refusal", "warn", "note")


class Message(NamedTuple):
    """One message: what makes it, where it stands, and its sentences."""

    kind: str
    place: str
    sentences: list[str]


def messages(root: Path = ROOT) -> Iterator[Message]:
    """Every message in the code of the repository."""
    for path in sorted(path for pattern in CODE for path in root.glob(pattern)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                yield from _of_function(function, path.relative_to(root))


def _of_function(function: ast.FunctionDef, path: Path) -> Iterator[Message]:
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or _name(node.func) not in KINDS:
            continue
        named = _named_sentences(function, node.lineno)
        sentences = [_sentence(one, named) for one in node.args]
        yield Message(_name(node.func), f"{path}:{node.lineno}", sentences)


def _named_sentences(function: ast.FunctionDef, before: int) -> dict[str, str]:
    """The texts that a function has given names to before a line: `fix = "…"`."""
    found = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    named: dict[str, str] = {}
    for node in sorted(found, key=lambda node: node.lineno):
        if node.lineno < before and isinstance(node.targets[0], ast.Name):
            named[node.targets[0].id] = _sentence(node.value, {})
    return named


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _sentence(node: ast.expr, named: dict[str, str]) -> str:
    """A text as a reader sees it, or the code that makes it, in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_sentence(part, {}) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    if isinstance(node, ast.Name) and node.id in named:
        return named[node.id]
    return f"{{{ast.unparse(node)}}}"


def main(kind: str = "") -> None:
    """Print them in the order of the files."""
    found = [message for message in messages() if kind in ("", message.kind)]
    for message in found:
        print(f"{message.place} {message.kind}")
        for sentence in message.sentences:
            print(f"    {sentence}")
    print(f"{len(found)} messages")


if __name__ == "__main__":
    typer.run(main)
