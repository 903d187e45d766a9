"""The order of imports is the flow: whoever reads a file need not know what comes after it."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import marketprism

ROOT = Path(marketprism.__file__).parent


def module(path: Path) -> str:
    """A file's name, as it is imported."""
    parts = (ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


FILES = {module(path): path for path in ROOT.rglob("*.py")}


def imports(name: str, path: Path) -> Iterator[str]:
    """The files of ours that a file imports, also where it is for types alone."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in FILES)
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            for each in node.names:
                found = f"{base}.{each.name}" if f"{base}.{each.name}" in FILES else base
                if found in FILES and found != name:
                    yield found


def test_no_circle_of_files() -> None:
    """Each can be read, and tested, after those that it imports."""
    graph = {name: set(imports(name, path)) for name, path in FILES.items()}
    assert sum(map(len, graph.values())) > len(graph)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(circle.args[1]))


def room(name: str) -> str:
    """The package of a file; those of the exchanges are rooms of their own, and so is what lists
    them.
    """
    parts = name.split(".")[1:]
    if name == "marketprism.feeds":
        return "the list of venues"
    exchange = parts[:1] == ["feeds"] and (len(parts) > 2 or FILES[name].name == "__init__.py")
    return ".".join(parts[: 2 if exchange else 1])


def test_no_circle_of_packages() -> None:
    """A room may be understood with those that it is built on, and without the others."""
    graph: dict[str, set[str]] = {}
    for name, path in FILES.items():
        others = {room(each) for each in imports(name, path)} - {room(name)}
        graph.setdefault(room(name), set()).update(others)
    assert {"feeds", "outbox", "observe", "the list of venues"} <= set(graph)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(circle.args[1]))


@pytest.mark.parametrize("venue", ["binance", "okx", "deribit"])
def test_no_exchange_imports_another(venue: str) -> None:
    """What they share stands above them."""
    own = f"{ROOT.name}.feeds.{venue}"
    others = {
        each for name, path in FILES.items() if name.startswith(own) for each in imports(name, path)
    }
    kept = {"marketprism.feeds.binance", "marketprism.feeds.okx", "marketprism.feeds.deribit"} - {
        own
    }
    assert [each for each in others if any(each.startswith(other) for other in kept)] == []
