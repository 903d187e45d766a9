"""What is asked for: a stream of one data type of one instrument, and how a venue has those."""

import attrs

from marketprism.instruments import Instrument
from marketprism.records import DataType

Stream = tuple[DataType, str]
"""Data type and native instrument id: the unit of freshness, gaps, parking and hand-over."""


@attrs.frozen
class Subscription:
    """One thing to collect."""

    data_type: DataType
    instrument: Instrument

    @property
    def stream(self) -> Stream:
        return self.data_type, self.instrument.native_id


@attrs.frozen
class Capability:
    """How a venue has a data type: all that the core must know of it."""

    by: str
    """`stream` or `poll`."""
    quiet_limit: float | None
    """Seconds without a record after which the stream is suspect; None: it may be silent."""
    counted: bool = False
    """Its ids count by ones: they say what is missing, and how much."""
    unordered: bool = False
    """Its ids come in no order, so that the last one alone does not tell what is new."""
    opaque_ids: bool = False
    """Its ids are names and no numbers: nothing follows from one but that it was told. They are
    `unordered`, too.
    """
    period: float | None = None
    """Seconds from one of its rows to the next, where it has them at fixed times."""
    by_currency: bool = False
    """It is of a currency, not of a pair: so it is configured."""
