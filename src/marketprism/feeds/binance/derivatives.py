"""Binance USD-M perpetuals, as the derivatives documentation has them (USDⓈ-M Futures).

The websocket is routed: `/public` carries the books, `/market` all else, so an instrument needs a
connection on each. (The old URL without a route still confirms every subscription, and is silent.)
Trades are `aggTrade` whatever `trade.kind` says: single trades are not offered.
"""

import contextlib
import math
from collections.abc import Sequence
from functools import partial
from typing import Final

from marketprism.feeds.actions import Fetch, Priority
from marketprism.feeds.binance.answers import interpret
from marketprism.feeds.binance.funding import FundingHours
from marketprism.feeds.binance.market import DepthRule, Market, chains, joins
from marketprism.feeds.binance.messages import FUTURES, UNREADABLE
from marketprism.feeds.binance.polls import (
    PATHS,
    ROW_SECONDS,
    OpenInterestPoll,
    RatioPoll,
)
from marketprism.feeds.binance.rest_messages import read_exchange_info, read_funding_info
from marketprism.feeds.binance.session import BinanceSession
from marketprism.feeds.planning import plan, up_to
from marketprism.feeds.venue import Poll, Shard
from marketprism.instruments import Instrument
from marketprism.records import DataType
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.subscription import Capability, Subscription

DEPTHS: Final = ((50, 2), (100, 5), (500, 10), (1000, 20))
"""`GET /fapi/v1/depth`: limits, and what each weighs."""
ROUTES: Final = {
    "public": {DataType.ORDERBOOK: "@depth@100ms"},
    "market": {
        DataType.TRADE: "@aggTrade",
        DataType.FUNDING_RATE: "@markPrice@1s",
        DataType.LIQUIDATION: "@forceOrder",
    },
}
"""What each route of the websocket carries, by the suffixes of its streams' names."""

ENDED: Final = {"PRE_SETTLE", "SETTLING", "CLOSE", "PRE_DELIVERING", "DELIVERING", "DELIVERED"}
"""The states of contracts that are being settled, or are: they do not trade again."""

OPEN_INTEREST_PERIOD: Final = 10.0
"""Seconds between two polls of one symbol, at least."""
OPEN_INTEREST_SHARE: Final = 0.4
"""Of the weight that is used; the rest is for snapshots."""
RATIO_REQUESTS: Final = 1000
"""What Binance allows an address under `/futures/data` in five minutes, apart from all weight."""
RATIO_DELAY: Final = 15.0
"""Seconds from the end of a row's five minutes to the first request for it."""
RATIO_AGAIN: Final = 20.0
"""Seconds until a row that was not there yet is asked for again, at least."""


class BinanceDerivatives:
    """The venue `binance_derivatives`: what `Venue` asks for, and what it is made of."""

    name: Final = "binance_derivatives"
    exchange: Final = "binance"
    market_type: Final = "perpetual"
    offers: Final = {
        DataType.ORDERBOOK: Capability("stream", 60.0),
        DataType.TRADE: Capability("stream", None, counted=True),
        DataType.FUNDING_RATE: Capability("stream", 60.0),
        DataType.OPEN_INTEREST: Capability("poll", 300.0),
        DataType.LIQUIDATION: Capability("stream", None),
        DataType.LSR_TOP_POSITION: Capability("poll", 1800.0, period=ROW_SECONDS),
        DataType.LSR_ALL_ACCOUNT: Capability("poll", 1800.0, period=ROW_SECONDS),
    }
    trade_kinds: Final = ("aggregated",)

    interpret = staticmethod(interpret)

    def __init__(self, settings: VenueConfig) -> None:
        self.settings = settings
        self.limits = settings.limits
        self._base_url = base = settings.api.base_url.rstrip("/")
        self.metadata = (
            Fetch(f"{base}/fapi/v1/exchangeInfo", weight=1, priority=Priority.METADATA),
            Fetch(
                f"{base}/fapi/v1/fundingInfo",
                weight=1,
                priority=Priority.METADATA,
                required=False,
            ),
        )
        self._funding_hours = FundingHours()
        depth = DepthRule(
            f"{base}/fapi/v1/depth?symbol={{symbol}}&limit={{limit}}",
            DEPTHS,
            joins=joins,
            continues=chains,
            countable=False,
        )
        root = settings.api.ws_url.rstrip("/")
        self._markets = {
            route: Market(f"{root}/{route}/ws", FUTURES, channels, depth, self._funding_hours)
            for route, channels in ROUTES.items()
        }

    def instruments(self, bodies: Sequence[bytes]) -> list[Instrument]:
        """The symbols of exchangeInfo whose contract is `PERPETUAL`; raises ValueError when it
        cannot be read.

        Dated futures have the same base and quote, and are another market; perpetuals on shares
        and metals (`TRADIFI_PERPETUAL`) keep the hours of theirs; what is margined in its own
        base is COIN-M's. `fundingInfo` names the
        symbols that are not funded every 8 hours; without it (empty, unreadable) what was known
        holds, at first nothing.
        """
        info, funding, *_ = *bodies, b""
        try:
            symbols = read_exchange_info(info)
        except UNREADABLE as error:
            raise ValueError(f"exchangeInfo cannot be read: {error}") from error
        with contextlib.suppress(*UNREADABLE):
            self._funding_hours.learn(read_funding_info(funding))
        return [
            Instrument(
                self.exchange,
                self.market_type,
                f"{row.baseAsset}-{row.quoteAsset}".upper(),
                row.symbol,
                row.baseAsset,
                row.quoteAsset,
                trading=row.status == "TRADING",
                ended=row.status in ENDED,
                native_status=row.status,
            )
            for row in symbols
            if row.named and row.contractType == "PERPETUAL" and row.marginAsset != row.baseAsset
        ]

    @property
    def unknown(self) -> Sequence[str]:
        """The intervals of funding, until `fundingInfo` was read."""
        return [] if self._funding_hours.known else ["how often its perpetuals are funded"]

    def plan(
        self, subscriptions: Sequence[Subscription], current: Sequence[Shard] = ()
    ) -> list[Shard]:
        """Shards by route; within one, an instrument's streams share a connection."""
        shards: list[Shard] = []
        fits = up_to(self.limits.streams_per_connection)
        for route, market in self._markets.items():
            carried = [
                subscription
                for subscription in subscriptions
                if subscription.data_type in market.channels
            ]
            session = partial(BinanceSession, market, self.settings)
            shards += plan(f"{self.name}/{route}/", carried, current, fits, session)
        return shards

    def polls(self, subscriptions: Sequence[Subscription]) -> list[Poll]:
        """One a stream, spread over their periods, within what Binance allows.

        Open interest: every 10 s, or as often as 40 % of the weight that is used allows: 500
        symbols at 2400 × 0.75 × 0.4 = 720 a minute come round every 42 s. Ratios: each row of
        five minutes soon after it is complete, at `rest_share` of 1000 requests in five minutes;
        what takes more (two ratios of 500 symbols are 1000) comes round every second row, and
        each answer holds the rows between. A row that is late is asked for again as far as those
        requests allow.
        """
        limits, polls = self.limits, list[Poll]()
        open_interest = [
            subscription
            for subscription in subscriptions
            if subscription.data_type is DataType.OPEN_INTEREST
        ]
        weight_a_second = (
            limits.rest_weight * limits.rest_share * OPEN_INTEREST_SHARE / limits.rest_window
        )
        period = max(OPEN_INTEREST_PERIOD, math.ceil(len(open_interest) / weight_a_second))
        for number, subscription in enumerate(open_interest):
            offset = period * number / len(open_interest)
            polls.append(
                OpenInterestPoll(
                    subscription, self._base_url, period, offset, self._connection(subscription)
                )
            )
        ratios = [subscription for subscription in subscriptions if subscription.data_type in PATHS]
        apart = ROW_SECONDS / (RATIO_REQUESTS * limits.rest_share)
        rounds = math.ceil(len(ratios) * apart / ROW_SECONDS)
        for number, subscription in enumerate(ratios):
            period = float(ROW_SECONDS * rounds)
            offset = (RATIO_DELAY + number * apart) % period
            again = max(RATIO_AGAIN, period / max(1, period // (len(ratios) * apart)))
            place = (self._base_url, period, offset, self._connection(subscription), again)
            polls.append(RatioPoll(subscription, *place))
        return polls

    def _connection(self, subscription: Subscription) -> str:
        return f"{self.name}/{subscription.data_type}"
