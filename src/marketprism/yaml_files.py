"""YAML files as plain mappings, strictly: a key given twice is an error, not the last one wins."""

from collections.abc import Hashable, Mapping
from pathlib import Path

import yaml

from marketprism.errors import ConfigError
from marketprism.yaml_limits import BoundedLoader, text_of

Tree = Mapping[str, object]


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
    try:
        # The loader derives from the safe one.
        found = yaml.load(text_of(path), _Loader)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError([f"{path}: {line}{error.problem or error.context}"]) from None
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        # Among them: bytes that are no UTF-8, control characters, dates that do not exist.
        reason = " ".join(str(error).split()) or "too deeply nested"
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError([f"{path}: must be a section of keys"])
    return found


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
