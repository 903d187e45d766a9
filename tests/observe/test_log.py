"""Logs: one shape for all events, and no secret in any of them."""

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from marketprism.observe import log
from marketprism.settings.settings import LogFile

CANARY = "canary-5f1d"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was, after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    log.close()
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            with contextlib.suppress(OSError):  # of the full disk
                handler.close()
    root.setLevel(level)
    logging.getLogger(log.OWN).setLevel(logging.NOTSET)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """Give the events on standard error since the last call, once they are written."""
    log.flush()
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_events_are_json_lines_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Each event is one JSON object, its level in upper case, its time RFC 3339 in UTC."""
    log.configure("INFO", terminal=False)
    structlog.get_logger().bind(venue="binance_spot").info("feed.connected", streams=2)
    (line,) = lines(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", str(line.pop("timestamp")))
    assert line == {
        "event": "feed.connected",
        "level": "INFO",
        "venue": "binance_spot",
        "streams": 2,
    }


def test_what_every_line_has_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In our events and in those of libraries, on standard error and in the file: so that lines can
    be read below each other.
    """
    path = tmp_path / "collector.log"
    log.configure("INFO", terminal=False, file=LogFile(path=path))
    structlog.get_logger().bind(connection="okx_spot/0").warning("feed.disconnected", streams=2)
    logging.getLogger("httpx").warning("library warning", extra={"a": 1})
    log.flush()
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 2
    for line in [*shown, *path.read_text(encoding="utf-8").splitlines()]:
        assert list(json.loads(line))[:3] == ["event", "level", "timestamp"]
    assert list(json.loads(shown[0]))[3:] == ["connection", "streams"]


def test_events_are_readable_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A person sees the level in upper case, the event and its values; grep finds them."""
    log.configure("INFO", terminal=True)
    structlog.get_logger().error("feed.lost", venue="okx_spot")
    log.flush()
    shown = capsys.readouterr().err
    assert re.search(r"Z \[ERROR *\] feed\.lost +venue=okx_spot\n$", shown)


def test_level_decides_what_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours from the level up; the libraries' from WARNING up, unless everything is wanted."""
    log.configure("INFO", terminal=False)
    structlog.get_logger().debug("own.detail")
    logging.getLogger("httpx").info("library detail")
    logging.getLogger("httpx").warning("library %s", "warning")
    assert [line["event"] for line in lines(capsys)] == ["library warning"]

    log.configure("DEBUG", terminal=False)
    structlog.get_logger().debug("own.detail")
    logging.getLogger("httpx").debug("library detail")
    assert [line["event"] for line in lines(capsys)] == ["own.detail", "library detail"]

    log.configure("ERROR", terminal=False)
    structlog.get_logger().warning("own.warning")
    logging.getLogger("httpx").warning("library warning")
    assert lines(capsys) == []


def test_libraries_are_logged_in_the_same_shape(capsys: pytest.CaptureFixture[str]) -> None:
    """An event of a library says which one, and carries its traceback."""
    log.configure("INFO", terminal=False)
    try:
        raise RuntimeError("no")
    except RuntimeError:
        logging.getLogger("hypercorn.error").exception("failed")
    (line,) = lines(capsys)
    assert (line["library"], line["level"], line["event"]) == ("hypercorn.error", "ERROR", "failed")
    assert "RuntimeError: no" in str(line["exception"])


def test_context_follows_the_task(capsys: pytest.CaptureFixture[str]) -> None:
    """What is bound once stands in each event after it."""
    log.configure("INFO", terminal=False)
    with structlog.contextvars.bound_contextvars(feed="binance_spot/0"):
        structlog.get_logger().info("feed.connected")
    (line,) = lines(capsys)
    assert line["feed"] == "binance_spot/0"


@pytest.mark.parametrize("terminal", [True, False])
def test_secrets_are_never_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    """Not in values however deep, not in objects, tracebacks, or what libraries say."""
    path = tmp_path / "collector.log"
    log.configure("INFO", terminal=terminal, file=LogFile(path=path))
    logger = structlog.get_logger()
    url = f"nats://user:{CANARY}@host:4222"
    logger.info("a", url=url, deep={"x": [url, (url,)], "api_key": CANARY}, error=ValueError(url))
    logger.info(f"wss://host/ws?token={CANARY}&x=1", password=CANARY)
    logging.getLogger("nats").warning("lost %s", url, extra={"more": url})
    try:
        try:
            raise ValueError(url)
        except ValueError as error:
            raise ExceptionGroup(f"at {url}", [RuntimeError(url)]) from error
    except ExceptionGroup:
        logger.exception("b")
        logging.getLogger("httpx").exception("c")
    log.flush()
    shown = capsys.readouterr().err + path.read_text(encoding="utf-8")
    assert CANARY not in shown
    assert shown.count("***@host:4222") >= 12


def test_file_is_json_even_on_a_terminal_and_is_rotated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log file has every event as JSON, and stays within its size and number of backups."""
    path = tmp_path / "logs/collector.log"
    log.configure("INFO", terminal=True, file=LogFile(path=path, max_bytes=2000, backups=2))
    for number in range(100):
        structlog.get_logger().info("feed.connected", number=number)
    log.flush()
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == [
        "collector.log",
        "collector.log.1",
        "collector.log.2",
    ]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["number"] == 99
    assert capsys.readouterr().err.count("feed.connected") == 100


def test_file_that_cannot_be_written_is_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong path costs the file, and nothing else."""
    (tmp_path / "taken").touch()
    log.configure("INFO", terminal=False, file=LogFile(path=tmp_path / "taken/collector.log"))
    structlog.get_logger().info("collector.started")
    told = lines(capsys)
    assert [line["event"] for line in told] == ["log.file_unwritable", "collector.started"]
    assert told[0]["level"] == "WARNING"


def test_file_that_fails_later_is_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """A disk that is full says so once; events go on to standard error."""
    log.configure("INFO", terminal=False, file=LogFile(path=Path("/dev/full"), max_bytes=10**9))
    for _ in range(3):
        structlog.get_logger().info("feed.connected")
    events = [line["event"] for line in lines(capsys)]
    assert events.count("log.file_unwritable") == 1
    assert events.count("feed.connected") == 3


def test_second_set_up_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    """No event is logged twice."""
    log.configure("INFO", terminal=False)
    log.configure("INFO", terminal=False)
    structlog.get_logger().info("feed.connected")
    assert len(lines(capsys)) == 1
