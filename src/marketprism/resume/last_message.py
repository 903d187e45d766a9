"""The last messages of a subject, as a JetStream stream tells them. Does no I/O.

They are asked of `STREAM.MSG.GET`, which the stream's leader answers. `DIRECT.GET` has a form for
many subjects at once, but a replica that lags may answer it, and a stream must allow it: whoever
took an old message for the last one would store twice what lies between.

A stream tells the next message of a subject from some number on, not the one before. So those
before the last are looked for by halves, the later one first.
"""

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Final

import attrs
import msgspec

from marketprism.errors import SinkLost

QUESTION: Final = "STREAM.MSG.GET."
"""To be followed by the stream's name."""

EARLIER: Final = 16
"""How many messages before the last one are asked for."""
FURTHEST: Final = 65_536
"""How many numbers of the stream are looked through for them."""
_NO_MESSAGE: Final = 10037
_MSG_ID: Final = b"Nats-Msg-Id:"


@attrs.frozen
class Stored:
    """A message of the stream."""

    subject: str
    sequence: int
    """The stream's number of it."""
    msg_id: str | None
    """Its `Nats-Msg-Id`; None where whoever wrote it gave none."""
    payload: bytes


Last = Callable[[Sequence[str]], Awaitable[Mapping[str, Stored]]]
"""The last message of each of these subjects; those that have none are left out.

Raises SinkLost or SinkRefused.
"""

Earlier = Callable[[Sequence[Stored]], Awaitable[Mapping[str, Sequence[Stored]]]]
"""By subject, what is stored before each of these messages: the latest `EARLIER` of its subject or
fewer, oldest first.

Raises SinkLost or SinkRefused.
"""


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Message(msgspec.Struct):
    subject: str
    seq: int
    data: bytes = b""
    hdrs: bytes = b""


class _Answer(msgspec.Struct):
    message: _Message | None = None
    error: _Error | None = None


_read = msgspec.json.Decoder(_Answer).decode


def question(subject: str) -> bytes:
    """What to ask under `QUESTION`."""
    return msgspec.json.encode({"last_by_subj": subject})


def question_from(subject: str, sequence: int) -> bytes:
    """The same, for the first message of a subject from a number of the stream on."""
    return msgspec.json.encode({"seq": sequence, "next_by_subj": subject})


Walk = Generator[int, Stored | None, list[Stored]]
"""Yields the number from which on the first message of a subject is wanted, is sent that (None:
there is none), and returns some of them, oldest first.
"""


def backwards(message: Stored) -> Walk:
    """The latest messages of its subject that are stored before one."""
    lower = max(1, message.sequence - FURTHEST)
    return (yield from _latest(lower, message.sequence, EARLIER))


def _latest(lower: int, upper: int, most: int) -> Walk:
    """Of the messages from one number up to another, not included; the later half first."""
    following = yield lower
    if following is None or following.sequence >= upper:
        return []
    middle = (following.sequence + 1 + upper) // 2
    later = [] if middle == upper else (yield from _latest(middle, upper, most))
    earlier: list[Stored] = []
    if len(later) < most and following.sequence + 1 < middle:
        earlier = yield from _latest(following.sequence + 1, middle, most - len(later))
    return [following, *earlier, *later][-most:]


def read(answer: bytes, stream: str) -> Stored | None:
    """The message of an answer, or None when there is none of that subject.

    Raises:
        SinkLost: the stream cannot say now, or the answer is not JetStream's.
    """
    try:
        found = _read(answer)
    except msgspec.MsgspecError:
        raise SinkLost(f"stream {stream}: its last message could not be read") from None
    if found.error is not None and found.error.err_code == _NO_MESSAGE:
        return None
    if found.message is None:
        why = "no message" if found.error is None else found.error.description
        raise SinkLost(f"stream {stream} does not tell its last message: {why}")
    message = found.message
    return Stored(message.subject, message.seq, _msg_id(message.hdrs), message.data)


def _msg_id(headers: bytes) -> str | None:
    for line in headers.split(b"\r\n"):
        if line.startswith(_MSG_ID):
            return line[len(_MSG_ID) :].strip().decode(errors="replace")
    return None
