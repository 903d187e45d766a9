"""One symbol, one instrument: what an exchange lists several times under one name. Pure."""

from collections.abc import Container, Iterable

import attrs

from marketprism.instruments import Instrument


@attrs.frozen
class Collision:
    """Two instruments that trade, and cannot both have the subjects of their symbol."""

    kept: Instrument
    refused: Instrument

    def __str__(self) -> str:
        kept, refused = self.kept, self.refused
        return f"{kept.symbol} is {kept.native_id}: {refused.native_id} has that name too, refused"


def one_each(
    instruments: Iterable[Instrument], collected: Container[str] = ()
) -> tuple[list[Instrument], list[Collision]]:
    """The instruments without those whose symbol, or native id whatever its case, is another's; and
    the collisions among those that trade.

    What trades is meant, not a placeholder beside it. Of several that trade it is the one that is
    `collected` already (by native ids), else the first.
    """
    listed = list(instruments)
    owners: dict[str, Instrument] = {}
    chosen: set[int] = set()
    collisions = []

    def rank(number: int) -> tuple[bool, bool]:
        return not listed[number].trading, listed[number].native_id not in collected

    for number in sorted(range(len(listed)), key=rank):
        each = listed[number]
        names = (f"symbol {each.symbol}", f"native {each.native_id.upper()}")
        owner = next((owners[name] for name in names if name in owners), None)
        if owner is None:
            chosen.add(number)
            owners.update(dict.fromkeys(names, each))
        elif each.trading and owner != each:
            collisions.append(Collision(owner, each))
    return [listed[number] for number in sorted(chosen)], collisions
