"""Captures: recorded websocket and REST traffic, one JSON object a line.

`{"ts":"<seconds>","kind":"connect|send|recv|http","url":"…","raw":"<text as on the wire>"}`, in
the order of receipt; `ts` of `http` is the arrival of the answer. `connect` has no `raw`, and
`recv` may have no `url`.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a capture."""

    ts: str
    kind: str
    url: str = ""
    raw: str = ""

    @property
    def at(self) -> float:
        """The recorder's wall clock, seconds since the epoch."""
        return float(self.ts)


_DECODER = msgspec.json.Decoder(Line)


def read(lines: Iterable[str]) -> list[Line]:
    """The lines of a capture; blank ones are passed over.

    Raises:
        msgspec.DecodeError: a line is none of a capture; the words say which.
    """
    found = []
    for number, line in enumerate(lines, start=1):
        if line and not line.isspace():
            try:
                found.append(_DECODER.decode(line))
            except msgspec.DecodeError as error:
                raise msgspec.DecodeError(f"line {number}: {error}") from error
    return found


def read_file(path: Path) -> list[Line]:
    """A capture on disk."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return read(file)
