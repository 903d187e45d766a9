"""Mutants of what happens while one connection takes over from another."""

from typing import Any

import pytest
from mutants import mutant

from marketprism.feeds.feed import Feed
from marketprism.feeds.handover import Handover


@mutant("okx_derivatives", "shutdown", first=12)
def what_was_held_back_is_dropped(patch: pytest.MonkeyPatch) -> None:
    """The younger begins with what it hears next."""
    take = Handover.take

    def taken(handover: Handover[Any], stream: Any) -> Any:
        return [], take(handover, stream)[1]

    patch.setattr(Handover, "take", taken)


@mutant("binance_derivatives", "shutdown", "hole", "deaf", first=3)
def a_silent_elder_is_believed(patch: pytest.MonkeyPatch) -> None:
    """It is not asked whether it lives."""

    def joined(handover: Handover[Any], stream: Any, reached: Any) -> bool:
        held = handover._held[stream]
        if held.position is not None:
            position = reached(stream)
            return position is not None and position >= held.position
        return held.since is not None

    patch.setattr(Handover, "joined", joined)


@mutant("binance_derivatives", "shutdown", "hole", "deaf", first=5)
def what_is_inherited_counts_as_joined(patch: pytest.MonkeyPatch) -> None:
    """An elder's death is no loss."""
    joined = Handover.joined

    def is_joined(handover: Handover[Any], stream: Any, reached: Any) -> bool:
        return handover._bereft or joined(handover, stream, reached)

    patch.setattr(Handover, "joined", is_joined)


@mutant("binance_derivatives", "shutdown", "unreachable", "cut")
def a_lost_elder_ends_nothing(patch: pytest.MonkeyPatch) -> None:
    """The younger waits for it for ever."""

    async def handed_over(feed: Feed, elder: Any, younger: Any) -> None:
        while elder.session.streams:
            await feed._wait(0.25)

    patch.setattr(Feed, "_handed_over", handed_over)
