"""The house: packages import one way, in the order that CONTRIBUTING.md gives, and no module imports in a circle."""

import ast
import dataclasses
import re

import pytest
from conftest import ROOT
from measurements import circles, read
from transformers import Seq2SeqTrainingArguments

MODULES = read(ROOT)
NAMES = {module.name for module in MODULES}
PACKAGES = sorted(path.parent.name for path in ROOT.glob("recipes/common/*/__init__.py"))


def floors():
    """The floors as CONTRIBUTING.md lists them, from the lowest: sets of packages."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    listed = re.search(r"^(runtime < .*)$", text, re.MULTILINE)
    return [set(floor.split(", ")) for floor in listed[1].split(" < ")]


def test_every_package_is_listed():
    assert len(PACKAGES) > 5
    assert sorted(set.union(*floors())) == sorted({module.package for module in MODULES} - {""})


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_package_imports_only_those_below_it(module):
    height = next(number for number, floor in enumerate(floors()) if module.package in floor)
    below = set().union(*floors()[:height]) | {module.package}
    assert {name for name in module.imports(NAMES) if name.split(".")[0] not in below} == set()


def test_no_module_imports_in_a_circle():
    assert circles({module.name: module.imports(NAMES) for module in MODULES}) == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_the_sign_on_a_package_s_door_is_all_that_its_init_holds(package):
    """The command line answers without torch, because no `__init__` imports anything."""
    tree = ast.parse((ROOT / "recipes/common" / package / "__init__.py").read_text("utf-8"))
    sign = ast.get_docstring(tree)
    assert len(tree.body) == 1
    named = set(re.findall(r"`(\w+)`", sign))
    modules = {path.stem for path in (ROOT / "recipes/common" / package).glob("[a-z]*.py")}
    assert len(modules) > 3
    assert modules - named == set()
    assert "may import" in sign


def test_launch_needs_nothing_but_runtime():
    launch = next(module for module in MODULES if module.name == "launch")
    assert {name.split(".")[0] for name in launch.imports(NAMES)} == {"runtime"}


RECIPES = sorted(ROOT.glob("recipes/*/run.py"))


@pytest.mark.parametrize("path", sorted(ROOT.glob("recipes/common/**/*.py")), ids=str)
def test_what_recipes_share_knows_no_recipe_by_its_name(path):
    names = [recipe.parent.name for recipe in RECIPES]
    assert len(names) > 5
    text = path.read_text("utf-8")
    for name in names:
        assert not re.search(rf"recipes[./]{name}\b|\b{name}/(run\.py|config\.yaml)", text)


CODE = [*ROOT.glob("recipes/**/*.py"), *ROOT.glob("tools/**/*.py"), ROOT / "cli.py"]
LONGEST, LONGEST_MAIN = 40, 50  # lines, as CONTRIBUTING.md says
LONGEST_RECIPE = 115  # lines: "about 100"


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            most = LONGEST_MAIN if path in RECIPES and node.name == "main" else LONGEST
            lines = node.end_lineno - node.lineno + 1
            assert lines <= most, f"{node.name} has {lines} lines"


NESTING = (ast.For, ast.While, ast.If, ast.With, ast.Try)
DEEPEST = 3


def depth(node, outer=0):
    """How many blocks stand in each other below a node; an elif is no deeper than its if."""
    found = [outer]
    for child in ast.iter_child_nodes(node):
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
        if not isinstance(child, ast.FunctionDef):  # it is measured by itself
            found.append(depth(child, outer + (isinstance(child, NESTING) and not is_elif)))
    return max(found)


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_are_not_deeper_than_three(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert depth(node) <= DEEPEST, node.name


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_a_recipe_is_about_a_hundred_lines_in_four_parts(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST_RECIPE
    parts = [line.strip() for line in text.splitlines() if re.match(r"    # \d\. ", line)]
    assert parts == ["# 1. Data", "# 2. Model", "# 3. Tokens", "# 4. Train"]


def written_attributes(path):
    """What a module assigns to the attributes of objects other than `self`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        is_written = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if is_written and ast.unparse(node.value) != "self":
            yield node.attr


def test_one_module_writes_to_training_arguments():
    fields = {field.name for field in dataclasses.fields(Seq2SeqTrainingArguments)}
    fields |= {"dispatch_batches"}  # of accelerator_config
    fields -= {"generation_config"}  # models have it, too
    found = {}
    for path in sorted(ROOT.glob("recipes/**/*.py")):
        if written := fields.intersection(written_attributes(path)):
            found[path.name] = written
    assert list(found) == ["training_settings.py"]
    assert len(found["training_settings.py"]) > 10


def prose(text):
    """The lines of a page without its code and tables."""
    is_code = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code and not line.lstrip().startswith("|"):
            yield line


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("[drs]*/**/README.md"), ROOT / "benchmarks/LOG.md"]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_line_of_prose_has_at_most_100_columns(page):
    assert len(PAGES) > 10
    found = [line for line in prose(page.read_text("utf-8")) if len(line) > 100]
    assert found == []
