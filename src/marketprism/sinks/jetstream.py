"""JetStream: the stream we need, the subjects it covers, its acknowledgements. Does no I/O."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Literal

import attrs
import msgspec
import structlog

from marketprism.errors import SinkLost, SinkRefused, SinkState
from marketprism.settings.nats import StreamConfig
from marketprism.wire import SUBJECTS

log = structlog.get_logger()

_STREAM_NOT_FOUND: Final = 10059
_NAME_IN_USE: Final = 10058
"""With a different configuration: another collector made it a moment ago."""
_SUBJECTS_OVERLAP: Final = 10065
_TOO_LARGE: Final = 10054
"""The message is larger than the stream takes."""
_UNAVAILABLE: Final = {10004, 10008, 10009}
"""The system, its leader or its peers are away for now."""
_NOT_STORED: Final = 10077
"""The stream is full and discards what is new."""
_LIMITS: Final = {10002, 10023, 10026, 10028, 10047}
"""Storage or streams of the account or the server are used up."""
_NO_JETSTREAM: Final = {10035, 10039, 10076}
_LEAST_SIZE: Final = 2048
"""Bytes: what no gap record exceeds, headers and all."""

_NANOSECONDS: Final = 1_000_000_000

Ask = Callable[[str, object], Awaitable[bytes]]
"""Puts a question to JetStream's management, `STREAM.INFO.name`; raises SinkLost or SinkRefused."""


@attrs.frozen
class Withheld:
    """The stream stores nothing now; it may be asked again over the same connection."""

    state: SinkState
    reason: str


Verdict = Literal["stored", "duplicate", "oversize"] | Withheld


class _ApiError(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _StreamState(msgspec.Struct):
    messages: int = 0
    first_ts: str = ""


class _StreamAnswer(msgspec.Struct):
    error: _ApiError | None = None
    config: dict[str, Any] | None = None
    state: _StreamState | None = None


class _NamesAnswer(msgspec.Struct):
    streams: list[str] | None = None


class _Acknowledgement(msgspec.Struct):
    stream: str = ""
    duplicate: bool = False
    error: _ApiError | None = None


_read_stream = msgspec.json.Decoder(_StreamAnswer).decode
_read_names = msgspec.json.Decoder(_NamesAnswer).decode
_read_acknowledgement = msgspec.json.Decoder(_Acknowledgement).decode


class Acknowledgements:
    """Reads what one stream answers to what is published to it."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        # The server writes this shape by hand, and nearly all answers are just it.
        self._head = b'{"stream":"%b","seq":' % stream.encode()

    def read(self, payload: bytes) -> Verdict:
        """What became of the message; an empty payload means that nobody took it.

        Raises:
            SinkLost: it was not stored, and may be another time.
        """
        head = self._head
        if (
            payload.startswith(head)
            and payload.endswith(b"}")
            and payload[len(head) : -1].isdigit()
        ):
            return "stored"
        if not payload:
            raise SinkLost(f"stream {self._stream} is gone", SinkState.STREAM_MISSING)
        try:
            answer = _read_acknowledgement(payload)
        except msgspec.MsgspecError:
            raise SinkLost("an acknowledgement could not be read") from None
        if (error := answer.error) is not None:
            if error.err_code == _TOO_LARGE:
                return "oversize"
            words = f"stream {self._stream} does not store: {error.description}"
            if error.err_code == _NOT_STORED:
                return Withheld(SinkState.STREAM_FULL, words)
            if error.err_code in _LIMITS:
                return Withheld(SinkState.LIMITED, words)
            raise SinkLost(words, SinkState.STREAM_UNUSABLE)
        if answer.stream != self._stream:
            words = f"stream {answer.stream!r} took what was meant for {self._stream}"
            raise SinkLost(words, SinkState.STREAM_UNUSABLE)
        return "duplicate" if answer.duplicate else "stored"


@attrs.frozen
class Ensured:
    """What is known of the stream now."""

    created: bool
    """By us, just now."""
    max_msg_size: int | None = None
    """Bytes it takes in one message, headers and all; None: as many as the server."""


async def ensure_stream(config: StreamConfig, ask: Ask) -> Ensured:
    """Create the stream as configured, or widen the one there is to take our subjects too.

    What else an existing stream is set to stays as it is.

    Raises:
        SinkLost: JetStream cannot say now.
        SinkRefused: there can be no such stream; the words say why.
        msgspec.MsgspecError: the answer is not JetStream's.
    """
    name = config.name
    while True:
        answer = _read_stream(await ask(f"STREAM.INFO.{name}", {}))
        if answer.error is None:
            existing = answer.config or {}
            if existing.get("no_ack"):
                words = f"stream {name} is set never to acknowledge (no_ack)"
                raise SinkRefused(words, SinkState.STREAM_UNUSABLE)
            largest = existing.get("max_msg_size") or -1
            if 0 < largest < _LEAST_SIZE:
                words = f"stream {name} takes messages of {largest} bytes at most (max_msg_size)"
                raise SinkRefused(f"{words}: too few for ours", SinkState.STREAM_UNUSABLE)
            subjects = widened(existing.get("subjects") or [])
            ensured = Ensured(created=False, max_msg_size=largest if largest > 0 else None)
            if subjects is None:
                return ensured
            verb, wanted = "UPDATE", {**existing, "subjects": subjects}
        elif answer.error.err_code == _STREAM_NOT_FOUND:
            verb, wanted, ensured = "CREATE", new_stream(config), Ensured(created=True)
        else:
            raise _conclusion(answer.error, name)
        answer = _read_stream(await ask(f"STREAM.{verb}.{name}", wanted))
        if answer.error is None:
            log.info(f"sink.stream_{verb.lower()}d", stream=name, subjects=wanted["subjects"])
            return ensured
        if answer.error.err_code == _SUBJECTS_OVERLAP:
            words = await _overlap(name, wanted["subjects"], ask)
            raise SinkRefused(words, SinkState.STREAM_UNUSABLE)
        if answer.error.err_code != _NAME_IN_USE:
            raise _conclusion(answer.error, name)


def first_message(answer: bytes) -> str | None:
    """When the oldest message was stored, by the server's answer to `STREAM.INFO`; None where there
    is no message, or no such answer.
    """
    try:
        state = _read_stream(answer).state
    except msgspec.MsgspecError:
        return None
    return state.first_ts if state is not None and state.messages else None


async def _overlap(name: str, subjects: Sequence[str], ask: Ask) -> str:
    """In words: which other streams take subjects that ours must have."""
    taken = {}
    for subject in subjects:
        names = _read_names(await ask("STREAM.NAMES", {"subject": subject})).streams
        taken.update({other: subject for other in names or [] if other != name})
    others = ", ".join(f"{other} takes {subject}" for other, subject in taken.items())
    return f"stream {name} cannot take our subjects while another does: {others}"


def _conclusion(error: _ApiError, stream: str) -> SinkLost | SinkRefused:
    words = f"stream {stream}: {error.description} ({error.err_code})"
    if error.err_code in _UNAVAILABLE:
        return SinkLost(words, SinkState.STALLED)
    if error.err_code in _NO_JETSTREAM:
        return SinkRefused(words, SinkState.NO_JETSTREAM)
    limited = error.err_code in _LIMITS
    return SinkRefused(words, SinkState.LIMITED if limited else SinkState.STREAM_UNUSABLE)


def new_stream(config: StreamConfig) -> dict[str, Any]:
    """The request for a stream as configured, over all our subjects."""
    return {
        "name": config.name,
        "subjects": list(SUBJECTS),
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_msgs": config.max_messages,
        "max_bytes": config.max_bytes,
        "max_age": round(config.max_age * _NANOSECONDS),
        "duplicate_window": round(config.duplicate_window * _NANOSECONDS),
        "num_replicas": 1,
    }


def widened(subjects: Sequence[str], ours: Iterable[str] = SUBJECTS) -> list[str] | None:
    """The subjects of a stream that also takes ours; None when it does already.

    Nothing it takes is lost: a subject goes only where a new one covers it, as one stream may
    not name the same subject twice.
    """
    missing = [new for new in ours if not any(covers(old, new) for old in subjects)]
    if not missing:
        return None
    kept = [old for old in subjects if not any(covers(new, old) for new in missing)]
    return kept + missing


def covers(pattern: str, subject: str) -> bool:
    """Whether whatever `subject` matches, `pattern` matches too; both may hold wildcards."""
    wide, narrow = pattern.split("."), subject.split(".")
    for position, token in enumerate(wide):
        if token == ">":
            return len(narrow) > position
        if position >= len(narrow) or narrow[position] == ">":
            return False
        if token not in ("*", narrow[position]):
            return False
    return len(wide) == len(narrow)
