"""Reads configurations: flat YAML or JSON, with each key once and with nothing that could harm."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recipes.common.runtime.errors import Refusal

# Limits of a configuration.
DEEPEST = 20  # values within values
LONGEST_NUMBER = 1000  # characters
LARGEST = 1_000_000  # bytes
NULL = "tag:yaml.org,2002:null"
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"}


@dataclass(frozen=True)
class Placed:
    """Holds a value, its place (file:line), and its words if it is a scalar or a list of scalars.

    The words are as they stand in the file. YAML reads `no` as False and 1.10 as 1.1, but the user
    may mean the choice "no" and the name "1.10".
    """

    value: Any
    where: str
    words: tuple[str, ...] | None = None


def from_yaml(path: Path) -> dict[str, Placed]:
    """Returns the flags of a configuration.

    Refuses duplicate keys, aliases, nesting, and anything but YAML or JSON.
    """
    document = _composed(path)
    if document is None:
        return {}
    plain = PlainLoader.DEFAULT_MAPPING_TAG
    if not isinstance(document, yaml.MappingNode) or document.tag != plain:
        what = "a configuration must be a list of `flag: value`"
        raise Refusal(what, str(path), "see the config.yaml of a recipe")
    return _mapping(document, path)


def _composed(path: Path) -> yaml.Node | None:
    try:
        if path.stat().st_size > LARGEST:
            what = "this is no configuration: it is larger than 1 MB"
            raise Refusal(what, str(path), "check --config")
        return yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=PlainLoader)
    except OSError as error:
        what = f"cannot read the configuration: {error.strerror}"
        raise Refusal(what, str(path), "check --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = str(path)
        mark = getattr(error, "problem_mark", None)
        if mark:
            where = f"{path}:{mark.line + 1}:{mark.column + 1}"
        problem = getattr(error, "problem", None) or "it is not UTF-8 text"
        fix = "write one `flag: value` per line"
        raise Refusal(f"malformed YAML: {problem}", where, fix) from None


class PlainLoader(yaml.SafeLoader):
    """A SafeLoader that refuses aliases, deep nesting and long numbers.

    A few lines of aliases can expand to gigabytes.
    """

    _depth = 0

    # The types are those of PyYAML's stub; `index` may also be a node or None.
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        if self._depth == DEEPEST:
            raise yaml.composer.ComposerError(None, None, "it is nested too deeply", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node and node.tag in NUMBERS and len(node.value) > LONGEST_NUMBER:
            raise yaml.composer.ComposerError(None, None, "a number is too long", node.start_mark)
        return node


# YAML 1.2 and JSON read 1e-5 as a number. PyYAML reads YAML 1.1, where it is a text.
PlainLoader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def _mapping(document: yaml.MappingNode, path: Path) -> dict[str, Placed]:
    loader = PlainLoader("")
    values: dict[str, Placed] = {}
    for key_node, value_node in document.value:
        key = "a key"
        where = f"{path}:{key_node.start_mark.line + 1}"
        try:
            key = str(loader.construct_object(key_node, deep=True)).replace("-", "_")
            value = loader.construct_object(value_node, deep=True)
        except (yaml.YAMLError, ValueError, LookupError, TypeError, RecursionError) as error:
            problem = " ".join(str(getattr(error, "problem", None) or error).split())
            fix = "write a text, a number, true, false, null, or a list of them"
            raise Refusal(f"{key} has a value that cannot be read: {problem}", where, fix) from None
        if key in values:
            raise Refusal(f"{key} is set twice", where, "keep one of the two lines")
        values[key] = Placed(value, where, _words(value_node))
    return values


def _words(node: yaml.Node) -> tuple[str, ...] | None:
    """Returns the words of a scalar or of a list of scalars, or None for anything else."""
    nodes = [node]
    if isinstance(node, yaml.SequenceNode):
        nodes = node.value
    words = []
    for one in nodes:
        if not isinstance(one, yaml.ScalarNode) or one.tag == NULL:
            return None
        words.append(one.value)
    return tuple(words)
