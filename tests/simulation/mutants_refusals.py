"""Mutants of what bears an exchange's refusals, and its stamps."""

import pytest
from mutants import mutant

from marketprism.feeds.exchange_clock import ExchangeClock
from marketprism.feeds.subscribing import Subscriptions


@mutant("okx_spot", "refused", "passing")
def what_is_refused_is_given_up(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks again."""
    patch.setattr(Subscriptions, "_ask_for_the_refused", lambda *_: None)
    patch.setattr(Subscriptions, "_ask_for_the_held", lambda *_: None)


@mutant("binance_derivatives", "stamps_ahead")
def any_stamp_moves_a_cursor(patch: pytest.MonkeyPatch) -> None:
    """However far ahead of all others it is."""
    patch.setattr(ExchangeClock, "is_ahead", lambda *_: False)
