"""What is collected from an exchange, and how it is asked: every default."""

from typing import Literal

import attrs

from marketprism.records import DataType
from marketprism.settings.kinds import (
    Count,
    Duration,
    DurationOrNever,
    Flag,
    HttpUrl,
    Levels,
    Share,
    Size,
    Text,
    WebsocketUrl,
    _shown,
)


@attrs.frozen
class Api:
    """Where an exchange answers. Roots: the venue adds its own paths."""

    base_url: HttpUrl = attrs.field(repr=_shown)
    """REST."""
    ws_url: WebsocketUrl = attrs.field(repr=_shown)
    """Websockets."""


@attrs.frozen
class TradeOptions:
    """How trades are taken."""

    kind: Literal["raw", "aggregated"] = "raw"
    """Every trade, or the exchange's aggregate of those of one order (Binance `aggTrade`)."""


@attrs.frozen
class OrderbookOptions:
    """How order books are published."""

    mode: Literal["updates", "snapshot"] = "updates"
    """Every update with snapshots between, or only snapshots of the local book."""
    depth: Levels = 400
    """Levels a side in a snapshot, at most."""
    snapshot_interval: DurationOrNever = 10.0
    """Time between two snapshots of a book. 0: only after a (re)synchronisation."""
    audit_interval: DurationOrNever = 1800.0
    """Time between two comparisons of a book with a fresh snapshot, at least: they wait for room
    in the REST budget. 0: never, but for a Binance book that is fetched again because the market
    has left what was known of it.
    """

    def __attrs_post_init__(self) -> None:
        if self.mode == "snapshot" and not self.snapshot_interval:
            raise ValueError("snapshot_interval must not be 0 in mode snapshot")


@attrs.frozen
class Limits:
    """How a venue is to be treated: heartbeat, pacing, sizes. The key is `limits`, and what is in
    it is flat, so that one line of a file is one limit.
    """

    connect_timeout: Duration = 10.0
    """Time a connection may take from dialling to the end of the handshake."""
    connection_life: DurationOrNever = 0.0
    """Time after which another connection takes over, before the exchange ends this one. 0: only
    when the exchange announces its end."""
    silence_timeout: Duration = 90.0
    """Time without any frame after which a connection is given up."""
    heartbeat: DurationOrNever = 0.0
    """Time between the heartbeats this side owes. 0: it owes none, it answers pings."""
    message_interval: DurationOrNever = 0.25
    """Least time between two messages sent on one connection."""
    subscribe_batch: Count = 100
    """Streams in one subscribe message, at most."""
    streams_per_connection: Count = 200
    """Streams on one connection, at most."""
    max_message_bytes: Size = 16 * 2**20
    """Size of one received message, at most; a larger one ends its connection."""
    connects_per_window: Count = 150
    """Connection attempts to one host within `connect_window`, at most."""
    connect_window: Duration = 300.0
    """The time `connects_per_window` counts over."""
    rest_weight: Count = 6000
    """What the host allows in REST weight within `rest_window`."""
    rest_window: Duration = 60.0
    rest_share: Share = 0.75
    """The part of that weight which is used."""


@attrs.frozen
class VenueConfig:
    """What is collected from one venue."""

    name: Text
    """Its id, as in `exchanges.<name>`; never a key of its own."""
    api: Api
    symbols: tuple[Text, ...]
    """BASE-QUOTE, or patterns with `*` and `?`; bare currencies for a volatility index."""
    data_types: tuple[DataType, ...]
    """By default everything the venue offers."""
    enabled: Flag = True
    """Whether it is collected at all."""
    trade: TradeOptions = TradeOptions()
    orderbook: OrderbookOptions = OrderbookOptions()
    limits: Limits = Limits()
