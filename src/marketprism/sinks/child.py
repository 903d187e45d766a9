"""A child process that ends when we do, and whose output we read."""

import ctypes
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

import trio

_PR_SET_PDEATHSIG: Final = 1
# Without releasing the interpreter's lock: between fork and exec nobody could give it back.
_libc = ctypes.PyDLL(None)


class Child:
    """A child process, and the thread that is its parent.

    To the kernel the parent is the thread that forked, and a child that asks for a signal at its
    parent's death gets it when that thread ends. So the thread stays, waiting for the child; one
    that Trio lends for the start only would end ten idle seconds later, and the child with it.
    """

    def __init__(self) -> None:
        self.ended = trio.Event()
        """Set when it has ended, or could not be started."""
        self.status: int | None = None
        """How it ended: an exit code, or minus the number of a signal."""
        self._spawned = trio.Event()
        self._failure: OSError | subprocess.SubprocessError | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """None before it is started."""
        return None if self._process is None else self._process.pid

    async def start(
        self, nursery: trio.Nursery, command: Sequence[str], keep: int
    ) -> trio.lowlevel.FdStream:
        """Start it, with our descriptor `keep` its own too; return what it writes.

        `stop` must be called before the nursery can end. Raises OSError or SubprocessError where
        there is no such program.
        """
        reading, writing = os.pipe()
        output = trio.lowlevel.FdStream(reading)
        nursery.start_soon(self._hold, command, writing, keep)
        # A cancel that struck now would leave a child which nobody knows of; it takes an instant.
        with trio.CancelScope(shield=True):
            await self._spawned.wait()
        os.close(writing)
        if self._failure is not None:
            await output.aclose()
            raise self._failure
        return output

    async def stop(self, patience: float) -> None:
        """Have it end: ask, and kill it after `patience` seconds."""
        if self._process is None:
            return
        with trio.move_on_after(patience, shield=True):
            self._process.terminate()
            await self.ended.wait()
        self._process.kill()  # does nothing to one that has ended

    async def _hold(self, command: Sequence[str], writing: int, keep: int) -> None:
        def spawned(process: subprocess.Popen[bytes]) -> None:
            self._process = process
            self._spawned.set()

        try:
            # It ends when the child does, which `stop` sees to: a cancel has nothing to add.
            with trio.CancelScope(shield=True):
                self.status = await trio.to_thread.run_sync(
                    _spawn_and_wait,
                    *(command, writing, keep, spawned),
                    limiter=trio.CapacityLimiter(1),
                )
        except (OSError, subprocess.SubprocessError) as error:
            self._failure = error
        finally:
            self._spawned.set()
            self.ended.set()


def _spawn_and_wait(
    command: Sequence[str],
    writing: int,
    keep: int,
    spawned: Callable[[subprocess.Popen[bytes]], None],
) -> int:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=writing,
        pass_fds=(keep,),
        # The terminal's Ctrl-C is for us: the child takes what we still have to deliver.
        start_new_session=True,
        preexec_fn=(functools.partial(_end_with, os.getpid()) if sys.platform == "linux" else None),
    )
    trio.from_thread.run_sync(spawned, process)
    return process.wait()


def _end_with(parent: int) -> None:
    # Runs between fork and exec: hardly more than system calls here.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)  # it was gone before we asked
