"""The house: imports go one way, in the order that CONTRIBUTING.md gives."""

import ast
import re

import pytest
from conftest import ROOT

COMMON = ROOT / "recipes/common"
MODULES = [path.stem for path in sorted(COMMON.glob("*.py")) if path.stem != "__init__"]


def order():
    """The modules as CONTRIBUTING.md lists them."""
    listed = re.search(r"stand above it here: (.*?); launch", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
    return [*listed[1].replace("\n", " ").split(", "), "launch"]


def imported(module):
    """The modules of recipes.common that one imports, at its top or within a function."""
    for node in ast.walk(ast.parse((COMMON / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recipes.common"):
            yield from [node.module.split(".")[2]] if node.module.count(".") == 2 else [one.name for one in node.names]


def test_every_module_is_listed():
    assert len(MODULES) > 20
    assert sorted(order()) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_those_above_it(module):
    above = order()[: order().index(module)]
    assert [name for name in imported(module) if name not in above] == []


def test_launch_needs_nothing_but_errors_and_files_and_what_they_import():
    assert set(imported("launch")) <= {"errors", "files", "secret"}
