"""YAML files as plain mappings, strictly: a key given twice is an error, not the last one wins."""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path

import yaml

from marketprism.errors import ConfigError
from marketprism.settings.yaml_limits import BoundedLoader, text_of

Tree = Mapping[str, object]

_PATTERN = re.compile(r"(\*(?:-[A-Z0-9*?]+)?)(?=[\s,\]}]|$)")
"""A pattern of symbols without quotes: YAML takes it for the name of something said elsewhere."""
_TAB = re.compile(r"[ ]*\t|[^#]*:[ ]*\t")
"""A line with a tab where YAML wants a space."""


class _Loader(BoundedLoader):
    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, object]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(
                    problem="a key must be text (in quotes, where it is not)",
                    problem_mark=key.start_mark,
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f'"{key.value}" is given twice', problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(path: Path) -> Tree:
    """The mapping in a file (an empty one, of an empty file), or a ConfigError of one line."""
    text = ""
    try:
        text = text_of(path)
        # The loader derives from the safe one.
        found = yaml.load(text, _Loader)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        reason = _hint(error, text) or error.problem or error.context
        raise ConfigError([f"{path}: {line}{reason}"]) from None
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        # Among them: bytes that are no UTF-8, control characters, dates that do not exist.
        reason = " ".join(str(error).split()) or "too deeply nested"
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError([f"{path}: must be a section of keys"])
    return found


def _hint(error: yaml.MarkedYAMLError, text: str) -> str | None:
    """What to write instead, where people stumble most often: YAML's own words do not say it."""
    lines = text.splitlines()
    alias = error.context_mark if error.context == "while scanning an alias" else None
    if error.problem and error.problem.startswith("found undefined alias"):
        alias = error.problem_mark
    if alias is not None and alias.line < len(lines):
        pattern = _PATTERN.match(lines[alias.line], alias.column)
        word = pattern[1] if pattern is not None else "text that begins with *"
        return f"{word} must be in quotes" + (f': "{word}"' if pattern is not None else "")
    mark = error.problem_mark
    if mark is not None and mark.line < len(lines) and _TAB.match(lines[mark.line]):
        return "a tab: YAML is indented with spaces"
    return None


def merged(base: Tree, over: Tree) -> dict[str, object]:
    """Both, the second winning; sections are merged, lists and values replaced."""
    result = dict(base)
    for key, value in over.items():
        under = result.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            value = merged(under, value)
        elif isinstance(under, Mapping) and value is None:
            value = under  # an empty section says nothing
        result[key] = value
    return result
