"""Whether the channel is pressed, so that books give way to the rest. Pure."""

import attrs


@attrs.define(eq=False)
class Pressure:
    """Pressed from more than `high` records on, until no more than half of that are left: between
    the two it stays as it was, or books would be given up and restated by turns.
    """

    high: int | None
    """Records; None: never pressed."""
    on: bool = False

    @classmethod
    def over(cls, capacity: int, share: float | None) -> "Pressure":
        """Pressed above that share of the capacity; None: never."""
        return cls(None if share is None else int(capacity * share))

    def at(self, held: int) -> bool:
        """Whether it is pressed, now that so many are held."""
        if self.high is not None:
            self.on = held > (self.high // 2 if self.on else self.high)
        return self.on
