"""What is said to OKX, and what its refusals mean. Pure.

Each argument is acknowledged by itself, echoed; an error names its argument in words at most.
"""

import re
from typing import Final

import msgspec

from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.actions import Send
from marketprism.feeds.commands import Command, Rules
from marketprism.feeds.okx import answers
from marketprism.feeds.okx.messages import Key
from marketprism.feeds.okx.streams import CHANNELS, argument_of
from marketprism.feeds.subscribing import Subscriptions
from marketprism.records import DataType

ANSWER_WITHIN: Final = 20 * SECOND
"""From a command to its answer."""
OPERATIONS_AN_HOUR: Final = 470
"""OKX allows 480 subscriptions and unsubscriptions an hour on a connection. Each argument is
counted for one, which is the stricter reading."""
KEPT_FOR_BOOKS: Final = 120
"""Operations of an hour that no renewal of another stream may use."""
MOST_ARGS: Final = 500
"""In one message: each stays below 128 bytes, together below the 64 KiB that OKX allows."""
_PASSING: Final = answers.PASSING | {"60014", "63999"}
_PASSING_KINDS: Final = ("63", "64")
"""How codes begin that speak of the service, and not of what was asked."""

_words: Final = re.compile(r"[\w.-]+").findall


def rules(batch: int, refused_retry: float) -> Rules:
    """How OKX wants to be asked."""
    return Rules(
        min(batch, MOST_ARGS),
        ANSWER_WITHIN,
        refused_retry,
        OPERATIONS_AN_HOUR,
        counts_topics=True,
        spared=KEPT_FOR_BOOKS,
    )


def said(command: Command[Key]) -> Send:
    """The command's text."""
    operation = "unsubscribe" if command.leaving else "subscribe"
    body = {"op": operation, "args": [argument_of(key) for key in command.topics]}
    return Send(msgspec.json.encode(body).decode(), command.number)


def begins_anew(subscriptions: Subscriptions[Key], key: Key, action: str | None) -> bool:
    """Whether a push of what is being left is the first of the subscription that follows: a whole
    book, after that was asked for. Nobody need acknowledge that any more.
    """
    if key.channel != CHANNELS[DataType.ORDERBOOK] or action != "snapshot":
        return False
    asking = subscriptions.asking()
    asked = any(each.sent_at is not None and key in each.topics for each in asking)
    return asked and subscriptions.accepted(key)


def refused(
    subscriptions: Subscriptions[Key], code: str, key: Key | None, words: str, now: Timestamp
) -> list[Key]:
    """An error that names its argument by `key`, in words, or not at all: the keys that cannot be
    had for now. An error may also echo the whole command.
    """
    passes = code in _PASSING or code.startswith(_PASSING_KINDS)
    asking = subscriptions.asking()
    if key is not None and key in subscriptions:
        named = {key}
    else:
        spoken = set(_words(words))
        named = {each for command in asking for each in command.topics if spoken.issuperset(each)}
    if len(named) == 1:
        (blamed,) = named
        return [blamed] if subscriptions.refused_topic(blamed, now, passes=passes) else []
    echoed = (each.number for each in asking if each.topics and named.issuperset(each.topics))
    return subscriptions.refused(next(echoed, None), now, passes=passes)
