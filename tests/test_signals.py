"""A signal that asks the process to end is obeyed at any time of its life, in order, without a word
that is not meant for people.
"""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from forms import LONG
from lone import Lone, ended

pytestmark = pytest.mark.once

EARLY = """
import os, runpy, signal, sys

left, number, point = None, int(sys.argv[1]), sys.argv[2]

def hook(event, arguments):
    global left
    if event == "import" and arguments[0] == "marketprism.cli":
        left = int(point) if point.isdigit() else None
    if left is not None and event == "import":
        left -= 1
    if left == 0 or event == point:
        left = None
        os.kill(os.getpid(), number)

sys.addaudithook(hook)
sys.argv[:] = ["marketprism", *sys.argv[3:]]
runpy.run_module("marketprism", run_name="__main__", alter_sys=True)
"""
"""Sends itself a signal: at so many imports after the first of ours, or when something happens."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("point", ["1", "100", "300", "sqlite3.connect", "socket.bind"])
async def test_a_start_that_is_not_wanted_any_more_ends_in_order(
    point: str, number: signal.Signals, tmp_path: Path
) -> None:
    """While it imports, while it opens what it has: exit 0, and no traceback."""
    lone = Lone(tmp_path)
    arguments = [str(int(number)), point, "--config", "collector.yaml"]
    process = await lone.start(sys.executable, "-c", EARLY, *arguments, stderr=subprocess.PIPE)
    assert await ended(process) == 0
    assert process.stderr is not None
    said = await process.stderr.receive_some(1 << 20)
    assert b"Traceback" not in said
    assert point.isdigit() is (said == b"")


@pytest.mark.skipif(not LONG, reason="it is about time: MARKETPRISM_LONG=1 runs it")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_at_any_moment_of_its_first_second_it_ends_in_order(
    number: signal.Signals, tmp_path: Path
) -> None:
    """Sixty starts. Before our first lines run, the interpreter answers in its own way."""
    obeyed = 0
    for turn in range(60):
        lone = Lone(tmp_path / str(turn))
        process = await lone.start(stderr=subprocess.PIPE)
        assert process.stderr is not None
        await trio.sleep(turn / 40)
        process.send_signal(number)
        code = await ended(process)
        said = await process.stderr.receive_some(1 << 20)
        assert b"marketprism/cli" not in said, (turn, said)
        if code == 0:
            assert b"Traceback" not in said, (turn, said)
            obeyed += 1
    assert obeyed >= 20


def session(then: Callable[[], object], terminal: int | None = None) -> Callable[[], None]:
    """What a child does first: a session of its own, with a terminal that controls it or none."""

    def begin() -> None:
        os.setsid()
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        then()

    return begin


def ignored() -> None:
    """As `nohup` does it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.parametrize("nohup", [False, True])
async def test_a_terminal_that_is_closed_stops_it_in_order(nohup: bool, tmp_path: Path) -> None:
    """Unless it was to outlive it (`nohup`)."""
    lone = Lone(tmp_path)
    ours, theirs = pty.openpty()
    first = session(ignored if nohup else bool, theirs)
    process = await lone.start(stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=first)
    os.close(theirs)
    await lone.logged("collector.started")
    os.close(ours)
    if nohup:
        await lone.page()
        assert "collector.signalled" not in lone.log()
        process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0
    assert lone.log()[-1] == "collector.stopped"


async def test_a_second_hang_up_does_not_cut_the_stop_short(tmp_path: Path) -> None:
    """Shells and terminals send one each."""
    lone = Lone(tmp_path)
    ours, theirs = pty.openpty()
    process = await lone.start(stdin=theirs, preexec_fn=session(bool, theirs))
    await lone.logged("collector.started")
    for _ in range(2):
        process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0
    os.close(ours)
    os.close(theirs)
    assert "collector.interrupted" not in lone.log()
    assert lone.log()[-1] == "collector.stopped"


async def test_without_a_terminal_a_hang_up_says_nothing(tmp_path: Path) -> None:
    """As a service it goes on: there is nothing that could have hung up. Nor does a broken pipe's
    signal end it.
    """
    lone = Lone(tmp_path)
    process = await lone.start(preexec_fn=session(bool))
    await lone.logged("collector.started")
    for number in (signal.SIGHUP, signal.SIGPIPE):
        process.send_signal(number)
    await lone.page()
    assert "collector.signalled" not in lone.log()
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0
    assert lone.log()[-1] == "collector.stopped"


async def test_what_nobody_expected_ends_with_a_traceback_in_the_log(tmp_path: Path) -> None:
    """Exit 1, and no secret in it."""
    lone = Lone(tmp_path)
    broken = "import runpy, sys, marketprism.app as app;"
    broken += "app.Collector.run = lambda self: 1 / 0 or {'x': 'nats://me:secret@h'}['y'];"
    broken += "sys.argv = ['x', '--config', 'collector.yaml'];"
    broken += "runpy.run_module('marketprism', run_name='__main__', alter_sys=True)"
    process = await lone.start(sys.executable, "-c", broken, stderr=subprocess.PIPE)
    assert await ended(process) == 1
    assert process.stderr is not None
    said = await process.stderr.receive_some(1 << 20)
    assert said.count(b"ZeroDivisionError: division by zero") == 1
    assert b"me:secret" not in said
    assert lone.log()[-1] == "process.failed"
