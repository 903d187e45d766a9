"""Whatever becomes of who reads what we say: the process works on, and ends when it is told to."""

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import yaml
from lone import Lone, ended, full_pipe
from ports import free_port

from marketprism import simulator
from marketprism.settings.sources import DEFAULTS

pytestmark = pytest.mark.once

DEBUG = {"log": {"level": "DEBUG"}}


@pytest.fixture
def stuck() -> Iterator[int]:
    """A pipe's end to write to: it is full, and nobody reads it."""
    reading, writing = full_pipe()
    yield writing
    os.close(reading)
    os.close(writing)


async def test_a_standard_error_that_nobody_reads_holds_nothing_up(
    tmp_path: Path, stuck: int
) -> None:
    """It serves, it logs to its file, and SIGTERM stops it in order."""
    lone = Lone(tmp_path, **DEBUG)
    process = await lone.start(stderr=stuck)
    await lone.page()
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0
    assert lone.log()[-1] == "collector.stopped"


async def test_a_terminal_that_was_stopped_holds_nothing_up(tmp_path: Path) -> None:
    """Ctrl-S, and then Ctrl-C in vain: SIGINT comes all the same."""
    lone = Lone(tmp_path, **DEBUG)
    ours, theirs = pty.openpty()
    process = await lone.start(stdin=theirs, stdout=theirs, stderr=theirs)
    termios.tcflow(theirs, termios.TCOOFF)
    await lone.page()
    process.send_signal(signal.SIGINT)
    assert await ended(process) == 0
    os.close(ours)
    os.close(theirs)


async def test_a_log_file_on_a_disk_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    """Neither one that cannot even be opened, nor one that takes nothing."""
    for number, kept in enumerate((False, True)):
        lone = Lone(tmp_path / str(number), **DEBUG)
        (lone.directory / "logs").mkdir()
        os.mkfifo(pipe := lone.directory / "logs/collector.log")
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if kept else None
        process = await lone.start(stderr=subprocess.PIPE)
        await lone.page()
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        assert process.stderr is not None
        assert b"collector.stopped" in await process.stderr.receive_some(1 << 20)
        if reader is not None:
            os.close(reader)


async def test_what_could_not_be_said_is_counted_and_told(tmp_path: Path) -> None:
    """In /status and the metrics while it is so, in a line when somebody reads again."""
    reading, writing = full_pipe()
    lone = Lone(tmp_path, **DEBUG)
    flood = "import marketprism.observe.background_writer as w, runpy, sys; w.MOST_LINES = 2;"
    flood += "sys.argv = ['x', '--config', 'collector.yaml'];"
    flood += "runpy.run_module('marketprism', run_name='__main__', alter_sys=True)"
    process = await lone.start(sys.executable, "-c", flood, stderr=writing)
    os.close(writing)
    lost = 0
    while not lost:
        lost = (await lone.page("/status")).json()["log_lines_lost"]["stderr"]
    said = b""
    while b"log.lines_lost" not in said:
        said += os.read(reading, 1 << 16)
    process.send_signal(signal.SIGTERM)
    while more := os.read(reading, 1 << 16):
        said += more
    assert await ended(process) == 0
    os.close(reading)


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
async def test_streams_that_are_closed_are_done_without(closed: str, tmp_path: Path) -> None:
    """It runs and stops in order; nothing else gets their numbers."""
    lone = Lone(tmp_path)
    shell = f"exec {sys.executable} -m marketprism --config collector.yaml {closed}"
    process = await lone.start("sh", "-c", shell)
    await lone.page()
    assert {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0
    assert lone.log()[-1] == "collector.stopped"


async def test_standard_output_that_is_closed_is_no_sink(tmp_path: Path) -> None:
    """What was asked for cannot be had: exit 1, in a line."""
    lone = Lone(tmp_path, sink="stdout")
    shell = f"exec {sys.executable} -m marketprism --config collector.yaml >&-"
    process = await lone.start("sh", "-c", shell, stderr=subprocess.PIPE)
    assert await ended(process) == 1
    assert process.stderr is not None
    words = b"marketprism: sink is stdout, and standard output is closed\n"
    assert await process.stderr.receive_some() == words


async def test_a_standard_error_whose_reader_has_gone_is_done_without(tmp_path: Path) -> None:
    """`run 2>&1 | head -1`: the log file says so, once."""
    lone = Lone(tmp_path, **DEBUG)
    reading, writing = os.pipe()
    os.close(reading)
    process = await lone.start(stderr=writing)
    os.close(writing)
    await lone.page()
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0
    assert lone.log().count("log.stderr_unwritable") == 1
    assert lone.log()[-1] == "collector.stopped"


@pytest.mark.parametrize("arguments", [["check"], ["--help"], ["check", "--help"], ["--version"]])
async def test_a_reader_that_has_seen_enough_is_no_failure(
    arguments: list[str], tmp_path: Path
) -> None:
    """`check | head -1`, `--help | head -1`: exit 0, and not a word of it."""
    lone = Lone(tmp_path)
    (tmp_path / "config/collector").mkdir(parents=True)
    (tmp_path / "collector.yaml").rename(tmp_path / "config/collector/unified_data_collection.yaml")
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "marketprism", *arguments]
    process = await lone.start(*command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert await ended(process) == 0
    assert process.stderr is not None
    assert await process.stderr.receive_some() == b""


async def test_output_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    """A full disk is not a reader that has gone: exit 1, in a line."""
    lone = Lone(tmp_path)
    command = [sys.executable, "-m", "marketprism", "--help"]
    # Without a buffer what parses the arguments swallows that.
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:  # noqa: ASYNC230 (a device)
        process = await lone.start(*command, stdout=full, stderr=subprocess.PIPE, env=environ)
    assert await ended(process) == 1
    assert process.stderr is not None
    said = await process.stderr.receive_some()
    assert said == b"marketprism: standard output: No space left on device\n"


async def test_a_sink_that_nobody_reads_holds_no_stop_up(
    tmp_path: Path, stuck: int, nursery: trio.Nursery
) -> None:
    """`sink: stdout` waits for its reader, and gives up with the grace: what it held is lost,
    which exit 1 says.
    """
    exchange = simulator.market("binance_spot", seed=3, trades_per_second=50)
    address = await nursery.start(simulator.serve, exchange)
    api = {"base_url": address.base_url, "ws_url": address.ws_url}
    venue = {"api": api, "symbols": ["BTC-USDT"]}
    lone = Lone(tmp_path, sink="stdout", exchanges={"binance_spot": venue})
    process = await lone.start(stdout=stuck)
    held = 0
    while not held:
        held = (await lone.page("/status")).json()["queues"]["outbox"]["held"]
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 1
    assert lone.log()[-2:] == ["collector.undelivered", "collector.stopped"]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("reader", ["does not read", "has gone"])
async def test_a_demo_that_nobody_watches_ends_without_a_word(
    reader: str, tmp_path: Path, stuck: int
) -> None:
    """A terminal that was stopped holds up no signal; `demo | head -1` is over after a line."""
    lone = Lone(tmp_path)
    environ = {**os.environ, "HEALTH_CHECK_PORT": str(lone.port), "METRICS_PORT": str(free_port())}
    command = [sys.executable, "-m", "marketprism", "demo"]
    streams = {"stderr": subprocess.PIPE, "env": environ}
    if reader == "has gone":
        process = await lone.start(*command, stdout=subprocess.PIPE, **streams)
        assert process.stdout is not None
        await process.stdout.receive_some()
        await process.stdout.aclose()
    else:
        process = await lone.start(*command, stdout=stuck, **streams)
        await lone.page()
        process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0
    assert process.stderr is not None
    assert b"Traceback" not in await process.stderr.receive_some(1 << 20)


def test_the_configuration_of_the_log_is_where_these_tests_think_it_is() -> None:
    """Their log files are those of the packaged configuration."""
    settings = DEFAULTS / "logging/logging_config.yaml"
    assert yaml.safe_load(settings.read_text())["path"] == "logs/collector.log"
