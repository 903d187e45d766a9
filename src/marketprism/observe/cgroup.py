"""How much memory the kernel lets us have, by our control group. Reads a few files, no more.

The sources are the kernel's own: "cgroup-v2.rst" (`memory.max`) and "cgroup-v1/memory.rst"
(`memory.limit_in_bytes`). A limit of a parent holds for its children, so the least one counts. In a
container the path of our group is often that of the host, which is not there; then the root of what
is mounted is our own group.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import attrs

UNLIMITED = 2**60
"""Bytes; v1 has no word for "none" but a number that no machine reaches."""


@attrs.frozen
class Limit:
    """What we are killed beyond."""

    size: int | None
    """Bytes; None: no limit is known."""
    source: str
    """`cgroup v2`, `cgroup v1`, or `none`."""


def memory_limit(root: Path = Path("/")) -> Limit:
    """The least limit of our group and its parents; `root` holds `proc` and `sys`."""
    groups = _groups(root / "proc/self/cgroup")
    mounted = root / "sys/fs/cgroup"
    for controller, directory, file, source in (
        ("memory", mounted / "memory", "memory.limit_in_bytes", "cgroup v1"),
        ("", mounted, "memory.max", "cgroup v2"),
    ):
        if (path := groups.get(controller)) is not None:
            sizes = [_size(each / file) for each in _and_parents(directory, path)]
            if known := [size for size in sizes if size is not None]:
                return Limit(min(known), source)
    return Limit(None, "none")


def _groups(file: Path) -> dict[str, str]:
    """Our group's path by controller; v2 has one line, which names none."""
    groups: dict[str, str] = {}
    for line in (_text(file) or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            if controller or number == "0":
                groups[controller] = path
    return groups


def _and_parents(mounted: Path, path: str) -> Iterator[Path]:
    """The directories from our group up to what is mounted."""
    group = PurePosixPath(path.lstrip("/"))
    if ".." not in group.parts:  # else it lies outside of what we can see
        yield mounted / group
        yield from (mounted / parent for parent in group.parents)
    else:
        yield mounted


def _size(file: Path) -> int | None:
    """A limit; None for `max`, for what is as good as none, and for what cannot be read."""
    text = (_text(file) or "").strip()
    if not (text.isascii() and text.isdigit()):
        return None
    size = int(text)
    return size if 0 < size < UNLIMITED else None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
