"""What is too much for a configuration: nothing that is read may keep the start waiting.

A path may lead anywhere: to a pipe that nobody writes, a device that never ends, the wrong file.
"""

import os
import stat
from pathlib import Path

import yaml

from marketprism.errors import ConfigError

MOST_BYTES = 512 * 1024
"""Of a file. The longest lists that are accepted fit in it."""
MOST_ITEMS = 5_000
"""In one list: more symbols than any venue has; patterns select them all."""
MOST_VALUES = 20_000
"""In a file, each as often as it is referred to: an alias costs what it stands for."""
MOST_CHARACTERS = 4096
"""In one value: a path may have as many."""
DEEPEST = 40
"""Sections within sections."""


def text_of(path: Path) -> str:
    """What stands in a regular file. Raises OSError, UnicodeDecodeError, or ConfigError where it is
    none or too large.
    """
    # Not waiting for a writer, should it be a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError([f"{path}: cannot be read: it is not a regular file"])
        content = b""
        while len(content) <= MOST_BYTES and (part := os.read(descriptor, MOST_BYTES + 1)):
            content += part
    finally:
        os.close(descriptor)
    if len(content) > MOST_BYTES:
        words = f"it is larger than {MOST_BYTES // 1024} KiB, and no configuration"
        raise ConfigError([f"{path}: cannot be read: {words}"])
    return content.decode()


class BoundedLoader(yaml.SafeLoader):
    """Counts values while they are read, and stops at the first that is too much.

    Raises MarkedYAMLError with the place of it.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._values = 0
        self._depth = 0
        self._sizes: dict[str, int] = {}
        """How many values each anchor stands for."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next value. The library's own, and the place where all of them pass."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if isinstance(event, yaml.AliasEvent):
            self._values += self._sizes.get(str(event.anchor), 0)
        before = self._values
        self._values += 1
        self._depth += 1
        items = index if isinstance(parent, yaml.SequenceNode) else 0
        length = sum(len(getattr(event, part, None) or "") for part in ("value", "tag", "anchor"))
        for what, count, most in (
            ("items in one list", items + 1, MOST_ITEMS),
            ("characters in one value", length, MOST_CHARACTERS),
            ("values, each counted as often as it is referred to", self._values, MOST_VALUES),
            ("sections within one another", self._depth, DEEPEST),
        ):
            if count > most:
                raise yaml.MarkedYAMLError(
                    problem=f"more than {most:,} {what}", problem_mark=event.start_mark
                )
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None and not isinstance(event, yaml.AliasEvent):
            self._sizes[event.anchor] = self._values - before
        return node
