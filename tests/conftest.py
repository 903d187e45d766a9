"""What all tests share: recordings, and a real nats-server."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats_server import Server


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of recorded exchange messages, which is not part of the project."""
    named = os.environ.get("MARKETPRISM_CAPTURES", "../shared/data")
    folder = Path(__file__).parents[1] / named
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder} (MARKETPRISM_CAPTURES names the folder)")
    return folder


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
