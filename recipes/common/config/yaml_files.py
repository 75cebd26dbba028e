"""Configuration files -> flags with their places: YAML or JSON, flat, each key once, nothing in it that could harm."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recipes.common.runtime.errors import Refusal

DEEPEST, LONGEST_NUMBER = 20, 1000  # of a configuration: values in values, digits
LARGEST = 1_000_000  # bytes of a configuration
NULL = "tag:yaml.org,2002:null"
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"}


@dataclass(frozen=True)
class Placed:
    """A value, where it stands (file:line), and the words of a scalar, or of a list of them, as they stand there: YAML
    takes `no` for False and 1.10 for 1.1, which may be a choice and a name."""

    value: Any
    where: str
    words: tuple[str, ...] | None = None


def from_yaml(path: Path) -> dict[str, Placed]:
    """A flat mapping of flags to values; refuses duplicate keys, aliases, nesting and anything but YAML or JSON."""
    try:
        if path.stat().st_size > LARGEST:
            raise Refusal(
                "this is no configuration: it is larger than 1 MB", str(path), "check --config"
            )
        document = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=PlainLoader)
    except OSError as error:
        raise Refusal(
            f"cannot read the configuration: {error.strerror}", str(path), "check --config"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or "it is not UTF-8 text"
        raise Refusal(
            f"malformed YAML: {problem}", where, "write one `flag: value` a line"
        ) from None
    if document is None:
        return {}
    if (
        not isinstance(document, yaml.MappingNode)
        or document.tag != PlainLoader.DEFAULT_MAPPING_TAG
    ):
        raise Refusal(
            "a configuration must be a list of `flag: value`",
            str(path),
            "see recipes/sentiment/config.yaml",
        )
    return _mapping(document, path)


class PlainLoader(yaml.SafeLoader):
    """SafeLoader without aliases, a few lines of which can expand to gigabytes, without deep nests and long numbers."""

    _depth = 0

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, "aliases are not allowed", event.start_mark
            )
        if self._depth == DEEPEST:
            raise yaml.composer.ComposerError(
                None, None, "it is nested too deeply", self.peek_event().start_mark
            )
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node.tag in NUMBERS and len(node.value) > LONGEST_NUMBER:
            raise yaml.composer.ComposerError(None, None, "a number is too long", node.start_mark)
        return node


# YAML 1.2 and JSON have 1e-5 as a number; PyYAML, which reads YAML 1.1, takes it for a text.
PlainLoader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def _mapping(document: yaml.MappingNode, path: Path) -> dict[str, Placed]:
    loader, values = PlainLoader(""), {}
    for key_node, value_node in document.value:
        key, where = "a key", f"{path}:{key_node.start_mark.line + 1}"
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
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    plain = all(isinstance(one, yaml.ScalarNode) and one.tag != NULL for one in nodes)
    return tuple(one.value for one in nodes) if plain else None
