"""A disk of its own for a test, so small that it can be filled; mounting needs root."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import pytest


@attrs.define
class SmallDisk:
    """What is mounted on a folder."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        """From now on there is no room."""
        with self._filler.open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def clear(self) -> None:
        """There is room again."""
        self._filler.unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """20 MB on a folder, which is made; skips the test, and says so, where mounting is refused."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk of our own: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        # Whoever still has a file open may keep it.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
