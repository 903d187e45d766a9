"""A mutant of what bears an exchange's refusals."""

import pytest
from mutants import mutant

from marketprism.feeds.subscribing import Subscriptions


@mutant("okx_spot", "refused", "passing")
def what_is_refused_is_given_up(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks again."""
    patch.setattr(Subscriptions, "_ask_for_the_refused", lambda *_: None)
    patch.setattr(Subscriptions, "_ask_for_the_held", lambda *_: None)
