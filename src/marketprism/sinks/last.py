"""The last message of a subject, as a JetStream stream tells it. Does no I/O.

It is asked of `STREAM.MSG.GET`, which the stream's leader answers. `DIRECT.GET` has a form for
many subjects at once, but a replica that lags may answer it, and a stream must allow it: whoever
took an old message for the last one would store twice what lies between.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import attrs
import msgspec

from marketprism.errors import SinkLost

QUESTION: Final = "STREAM.MSG.GET."
"""To be followed by the stream's name."""

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
