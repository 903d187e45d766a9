"""What all tests share: recordings, and a real nats-server."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from delivering import delivery, make_message, until, unused_port  # noqa: F401 (fixtures)
from forms import examples
from hypothesis import HealthCheck, settings
from nats_server import Server

from marketprism.outbox.spool import Spool

# A busy machine draws slowly, and is late: neither is a property of what is tested.
settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=examples(200),
)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much the simulation does: see tests/simulation."""
    parser.addoption("--seeds", type=int, help="so many universes, from 0 on")
    parser.addoption("--seed", type=int, help="the one universe of test_one_seed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that at the end none of them is waited for."""
    items.sort(key=lambda item: item.get_closest_marker("once") is None)


@pytest.fixture
def seeds(pytestconfig: pytest.Config) -> int | None:
    """How many universes were asked for; None: as many as fit the time."""
    asked: int | None = pytestconfig.getoption("--seeds")
    return asked


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int | None:
    """The universe that was asked for."""
    asked: int | None = pytestconfig.getoption("--seed")
    return asked


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of recorded exchange messages, which is not part of the project."""
    named = os.environ.get("MARKETPRISM_CAPTURES", "../shared/data")
    folder = Path(__file__).parents[1] / named
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder} (MARKETPRISM_CAPTURES names the folder)")
    return folder


@pytest.fixture(autouse=True)
def _spools_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A collector that is killed within a test leaves its spool open: what the operating system
    takes from a process that has ended is taken from it when the test ends.
    """
    opened: list[Spool] = []
    begin = Spool._open

    def noted(spool: Spool) -> None:
        opened.append(spool)
        begin(spool)

    monkeypatch.setattr(Spool, "_open", noted)
    yield
    for spool in opened:
        spool.close()


@pytest.fixture
def absent_server(tmp_path: Path) -> Iterator[Server]:
    """A server that is not started yet."""
    server = Server(tmp_path)
    yield server
    with contextlib.suppress(AssertionError):
        server.signal(signal.SIGCONT)
    server.kill()


@pytest.fixture
def server(absent_server: Server) -> Server:
    """A server with JetStream that runs."""
    absent_server.start()
    return absent_server
