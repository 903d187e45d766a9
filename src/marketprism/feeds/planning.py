"""Which streams share a connection. Pure."""

from collections.abc import Callable, Sequence

from marketprism.feeds.venue import Shard, Want


def spread(
    wants: Sequence[Want], current: Sequence[Shard], fits: Callable[[Sequence[Want]], bool]
) -> list[tuple[Want, ...]]:
    """Wants by connection: an instrument's share one, and they are filled one by one, as long as
    all of a connection `fits`.

    What is in `current` stays where it is, in that order; what comes takes the room that others
    left.
    """
    wanted = set(wants)
    groups = [[want for want in shard.wants if want in wanted] for shard in current]
    placed = {want for group in groups for want in group}
    by_instrument: dict[str, list[Want]] = {}
    for want in wants:
        if want not in placed:
            by_instrument.setdefault(want.instrument.native_id, []).append(want)
    for together in by_instrument.values():
        group = next((each for each in groups if fits(each + together)), None)
        if group is None:
            groups.append(group := [])
        group += together
    return [tuple(group) for group in groups]
