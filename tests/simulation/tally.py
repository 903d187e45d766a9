"""What the universes of a run came to, added up over its tests and their processes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from universe import Outcome


@attrs.define
class Tally:
    """Universes, added up."""

    seeds: int = 0
    seconds: float = 0.0
    """Virtual ones."""
    stored: int = 0
    faults: Counter[str] = attrs.field(factory=Counter)

    @classmethod
    def of(cls, parts: Iterable[Mapping[str, Any]]) -> "Tally":
        """The sum of what `attrs.asdict` made of some."""
        total = cls()
        for part in parts:
            total.seeds += part["seeds"]
            total.seconds += part["seconds"]
            total.stored += part["stored"]
            total.faults.update(part["faults"])
        return total

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.seeds += 1
        self.seconds += outcome.seconds
        self.stored += outcome.stored
        self.faults.update(outcome.counts)

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(self.faults.items()))
        return (
            f"{self.seeds} seeds, {self.seconds / 3600:.1f} virtual hours, "
            f"{self.stored} messages stored, {self.faults.total()} faults: {kinds}"
        )
