"""Errors, named for what the caller should conclude.

Foreign errors (sockets, TLS, HTTP, NATS) are translated into these at the border where they
arise; nothing further in needs to know which library was speaking.
"""

import errno
from collections.abc import Iterator, Sequence
from enum import StrEnum

_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def no_room(error: BaseException) -> bool:
    """Whether the process or the machine has no room for another file or socket: whoever asks for
    one meets that, so it says nothing of him.
    """
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors that a group is made of, however nested; of any other, itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


class MarketPrismError(Exception):
    """Everything this package raises on purpose."""


class ConfigError(MarketPrismError):
    """The configuration cannot be used; `problems` says why, one readable line a problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


class StartFailed(MarketPrismError):
    """Something this process needs to exist at all cannot be had (a port is taken): exit 1."""


class Transient(MarketPrismError):
    """The world got in the way; trying again later is right.

    `retry_after` is the least number of seconds to wait first, where the other side said so.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Lost(Transient):
    """The connection is gone, or is of no more use."""


class Quiet(Transient):
    """The connection stands, but nothing has come over it for longer than it may be silent."""


class RateLimited(Transient):
    """We asked too often; nobody may ask this host again before `retry_after`."""


class SinkState(StrEnum):
    """How it stands with the sink. In none but `connected` are messages taken;
    what is not taken waits in the outbox.
    """

    CONNECTING = "connecting"
    """Nothing has failed yet."""
    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    """No connection comes about, or it broke."""
    STALLED = "stalled"
    """There is a connection, but nothing is answered over it: a full disk looks like that."""
    UNTRUSTED = "untrusted"
    """The server's certificate is not accepted, or it has none where there must be one."""
    UNAUTHORISED = "unauthorised"
    """The server does not accept who we are, or not what we may do."""
    LIMITED = "limited"
    """A limit of the server or the account: connections, storage, streams."""
    NO_JETSTREAM = "no_jetstream"
    STREAM_MISSING = "stream_missing"
    """It was deleted; the next attempt makes it again."""
    STREAM_UNUSABLE = "stream_unusable"
    """There is one, but its settings or another stream are in our way."""
    STREAM_FULL = "stream_full"
    """It discards what is new."""


class SinkLost(Transient):
    """The sink cannot take messages now; what it did not acknowledge is still ours."""

    def __init__(
        self,
        reason: str,
        state: SinkState = SinkState.UNREACHABLE,
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.state = state


class SpoolLost(Transient):
    """The spool's disk will not have it now; what is on it may be there when it works again."""


class SpoolFull(Transient):
    """The spool may not grow: what is not on it waits in memory."""


class SpoolDamaged(MarketPrismError):
    """What is in the spool's file cannot be believed; it is of no more use."""


class Refused(MarketPrismError):
    """The host will not have us: our configuration or our place is wrong, not the moment."""


class SinkRefused(Refused):
    """The sink will not have us, or cannot: somebody has to look. What it did not acknowledge is
    still ours.
    """

    def __init__(self, reason: str, state: SinkState) -> None:
        super().__init__(reason)
        self.state = state
