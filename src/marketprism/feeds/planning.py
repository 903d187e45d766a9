"""Which streams share a connection. Pure."""

from collections.abc import Callable, Mapping, Sequence

import attrs

from marketprism.feeds.venue import REFUSED_RETRY, Session, Shard
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Stream, Subscription

Fits = Callable[[Sequence[Subscription]], bool]
"""Whether one connection can carry these."""
Opener = Callable[[str, Sequence[Subscription], Mapping[Stream, Cursor], float], Session]
"""A session, of the arguments of a shard: its id, its wants, the cursors, and how often what is
refused is asked for again.
"""


@attrs.frozen
class PlannedShard:
    """What one connection carries, and how its sessions begin."""

    id: str
    subscriptions: Sequence[Subscription]
    session: Opener

    def open(
        self, cursors: Mapping[Stream, Cursor], refused_retry: float = REFUSED_RETRY
    ) -> Session:
        return self.session(self.id, self.subscriptions, cursors, refused_retry)


def plan(
    prefix: str,
    subscriptions: Sequence[Subscription],
    current: Sequence[Shard],
    fits: Fits,
    session: Opener,
) -> list[Shard]:
    """Wants by connection: an instrument's share one, and they are filled one by one, as long as
    all of a connection `fits`. Their ids are the prefix and a number.

    What is in `current`, of that prefix, stays where it is, in that order; what comes takes the
    room that others left.
    """
    wanted = set(subscriptions)
    stay = [shard.subscriptions for shard in current if shard.id.startswith(prefix)]
    groups = [
        [subscription for subscription in before if subscription in wanted] for before in stay
    ]
    placed = {subscription for group in groups for subscription in group}
    by_instrument: dict[str, list[Subscription]] = {}
    for subscription in subscriptions:
        if subscription not in placed:
            by_instrument.setdefault(subscription.instrument.native_id, []).append(subscription)
    for together in by_instrument.values():
        group = next((each for each in groups if fits(each + together)), None)
        if group is None:
            groups.append(group := [])
        group += together
    return [
        PlannedShard(f"{prefix}{number}", tuple(group), session)
        for number, group in enumerate(groups)
    ]


def up_to(streams: int) -> Fits:
    """A connection carries so many."""
    return lambda subscriptions: len(subscriptions) <= streams
