"""The rules of the house that a program can check, from the source itself."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import marketprism

PACKAGE = Path(marketprism.__file__).parent
IMPURE = {"trio", "asyncio", "time", "random", "datetime", "socket", "threading", "os"}
FEEDS_IO = {
    *("connection.py", "frames.py", "rest.py", "dialing.py", "polling.py"),
    *("feed.py", "line.py", "collection.py", "venue_tasks.py", "rotation.py"),
    *("host_access.py", "sending.py", "liveness.py"),
}
"""They run what the others conclude."""
PURE = [
    *(path for path in (PACKAGE / "feeds").rglob("*.py") if path.name not in FEEDS_IO),
    *(path for room in ("streams", "board", "gaps") for path in (PACKAGE / room).rglob("*.py")),
    *(PACKAGE / name for name in ("orderbook.py", "records.py", "instruments.py")),
    *(PACKAGE / "observe" / name for name in ("arrivals.py", "checks.py", "stream_checks.py")),
]
SOURCES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The top-level names of what a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name.split(".")[0] for name in names)
            case ast.ImportFrom(module=str(module)):
                yield module.split(".")[0]


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_code_knows_no_clock_no_socket_and_no_trio(path: Path) -> None:
    """Time and chance come in as arguments."""
    assert not IMPURE & set(imported(path))


def test_only_the_nats_sink_imports_asyncio_and_nats() -> None:
    """One border: the sink, its connection, what its stream is asked, and the table of errors."""
    guests = {"trio_asyncio", "nats", "asyncio"}
    found = {str(path.relative_to(PACKAGE)) for path in SOURCES if guests & set(imported(path))}
    border = ("nats", "nats_connection", "nats_errors", "nats_questions")
    assert found <= {f"sinks/{name}.py" for name in border}


def test_the_wall_clock_is_read_in_one_place() -> None:
    """`app.clock`; the simulator is another world and has its own."""
    readers = [
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"time_ns", "utcnow", "now", "today"}
        if isinstance(node.value, ast.Name) and node.value.id in {"time", "datetime", "date"}
    ]
    assert [name for name in readers if not name.startswith("simulator/")] == ["app.py"]


EXCHANGES = ("binance", "okx", "deribit")
CORE = [
    path
    for path in SOURCES
    if not {"simulator", *EXCHANGES} & set(path.relative_to(PACKAGE).parts)
    and path != PACKAGE / "feeds/__init__.py"
]


def said(path: Path) -> Iterator[str]:
    """The texts and the names in a file's code, docstrings left out."""
    tree = ast.parse(path.read_text())
    documented = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in documented:
                yield text
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield name
            case ast.ImportFrom(module=str(module)):
                yield module


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_names_no_exchange(path: Path) -> None:
    """What differs is declared by a venue, so that another one needs no change here."""
    assert [text for text in said(path) if any(name in text.lower() for name in EXCHANGES)] == []
