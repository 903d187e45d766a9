"""Mutants of what bears what an exchange says, and does not mean for ever."""

from collections.abc import Iterable
from typing import Any

import pytest
from mutants import mutant

from marketprism.clock import Timestamp
from marketprism.errors import Lost
from marketprism.feeds import venue_tasks as venues
from marketprism.feeds.actions import Close
from marketprism.feeds.binance.session import BinanceSession
from marketprism.feeds.commands import Command
from marketprism.feeds.subscribing import Subscriptions
from marketprism.instruments import Instrument
from marketprism.streams.exchange_clock import ExchangeClock


@mutant("okx_spot", "refused", "passing")
def what_is_refused_is_given_up(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks again."""
    patch.setattr(Subscriptions, "_ask_for_the_refused", lambda *_: None)
    patch.setattr(Subscriptions, "_ask_for_the_held", lambda *_: None)


@mutant("binance_derivatives", "cut", one_by_one=6.0)
def answers_are_due_from_when_commands_are_made(patch: pytest.MonkeyPatch) -> None:
    """However long they wait until they are sent; and what is not answered ends its connection."""
    say = Subscriptions._say

    def said(
        asked: Subscriptions[Any], topics: list[Any], now: Timestamp, **more: Any
    ) -> Command[Any]:
        command = say(asked, topics, now, **more)
        command.sent_at = now.monotonic
        return command

    patch.setattr(Subscriptions, "_say", said)
    patch.setattr(Subscriptions, "sent", lambda *_: None)
    patch.setattr(BinanceSession, "_doubt", lambda *_: Close(Lost("not answered")))


@mutant("okx_derivatives", "stamped_ahead")
def any_stamp_moves_the_cursor(patch: pytest.MonkeyPatch) -> None:
    """Whatever time it says."""
    patch.setattr(ExchangeClock, "is_ahead", lambda *_: False)


@mutant("binance_spot", "placeholders")
def the_first_of_a_name_is_its_market(patch: pytest.MonkeyPatch) -> None:
    """Though it keeps a place only."""

    def firsts(listed: Iterable[Instrument], _collected: object = ()) -> tuple[Any, list[Any]]:
        return list({each.symbol: each for each in reversed(list(listed))}.values()), []

    patch.setattr(venues, "one_each", firsts)
