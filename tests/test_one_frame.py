"""One frame never ends more than itself: through the real process, over real sockets."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from nats_server import Server
from patience import PATIENCE
from service import Service, configuration

from marketprism import simulator
from marketprism.simulator import Exchange

pytestmark = pytest.mark.once

NO_DATE = 253_402_300_799_999
"""31 December 9999, milliseconds."""


def binance(now: int) -> list[Any]:
    """What Binance's derivatives may say one day."""
    mark = {"e": "markPriceUpdate", "E": now, "s": "BTCUSDT", "p": "1E2", "r": "0.5", "T": NO_DATE}
    order = {"s": "BTCUSDT", "S": "", "q": None, "p": "", "T": now, "X": "NEW", "ap": "x"}
    trade = {"e": "aggTrade", "s": "BTCUSDT", "p": "1", "q": "1", "f": 1, "l": 1, "m": True}
    depth = {"e": "depthUpdate", "E": now, "T": NO_DATE, "s": "BTCUSDT", "b": [], "a": [["1"]]}
    return [
        mark,
        {**mark, "E": NO_DATE},
        {"e": "forceOrder", "E": NO_DATE, "o": order},
        {"e": "forceOrder", "E": now, "o": {**order, "T": NO_DATE}},
        {**trade, "a": 2**63, "T": now},
        {**trade, "a": 10**400, "T": now},
        {**trade, "a": 1, "T": NO_DATE},
        {**depth, "U": 2**64, "u": 2**64, "pu": 10**400},
    ]


def okx(now: int) -> list[Any]:
    """What OKX's may."""
    swap = {"instId": "BTC-USDT-SWAP"}
    funding = {**swap, "fundingRate": "5E-1", "fundingTime": str(NO_DATE), "ts": str(now + 1)}
    detail = {"side": "", "posSide": "both", "bkPx": "", "sz": "7", "ts": str(now)}
    trade = {**swap, "tradeId": str(2**63), "px": "1", "sz": "1", "side": "buy", "ts": str(now)}
    told = {
        "funding-rate": (swap, [funding, {**funding, "ts": str(NO_DATE)}]),
        "liquidation-orders": (
            {"instType": "SWAP"},
            [{**swap, "details": [detail, {**detail, "ts": str(NO_DATE)}, None]}],
        ),
        "trades": (swap, [trade, {**trade, "tradeId": "1", "ts": str(NO_DATE)}]),
        "open-interest": (swap, [{"oi": None, "oiCcy": "1e1", "oiUsd": "", "ts": str(NO_DATE)}]),
    }
    return [
        {"arg": {"channel": channel, **subject}, "data": data}
        for channel, (subject, data) in told.items()
    ]


def deribit(now: int) -> list[Any]:
    """What Deribit may."""
    channel = "deribit_volatility_index.btc_usd"
    data = {"volatility": 1e-8, "timestamp": NO_DATE, "index_name": "btc_usd"}
    said = {"method": "subscription", "params": {"channel": channel, "data": data}}
    return [
        said,
        {"id": 10**400, "result": "ok"},
        {"method": "heartbeat", "params": None, "x": now},
    ]


async def published(service: Service, more: int) -> dict[str, Any]:
    """Its /status, once it has published so many messages more than now."""
    _, page = await service.page("/status")
    enough = page["totals"]["published"] + more
    with trio.fail_after(PATIENCE):
        while True:
            _, page = await service.page("/status")
            if page["totals"]["published"] >= enough:
                return page
            await trio.sleep(0.1)


SAID = {"binance_derivatives": binance, "okx_derivatives": okx, "deribit_derivatives": deribit}


async def test_no_frame_ends_more_than_itself(
    server: Server, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """A time that is none, a number of 400 digits, a null: what can be done without is null, what
    cannot costs itself. The process, its connections and its neighbours go on.
    """
    exchanges: dict[str, Exchange] = {}
    addresses = {}
    for venue in SAID:
        exchanges[venue] = simulator.market(venue, seed=3)
        address = await nursery.start(simulator.serve, exchanges[venue])
        symbol = "BTC" if venue.startswith("deribit") else "BTC-USDT"
        addresses[venue] = address, (symbol,)
    service = Service(tmp_path, configuration(addresses, server))
    await service.start()
    await service.healthy(60)
    for venue, say in SAID.items():
        for frame in say(exchanges[venue].now_ms()):
            assert exchanges[venue].faults.garbage(text=json.dumps(frame)) > 0
    page = await published(service, 100)
    assert page["faults"] == {}
    assert {row["venue"] for row in page["rejected"]} == set(SAID)
    _, connections = await service.page("/connections")
    assert {row["reconnects"] for row in connections["connections"]} == {0}
    assert await service.ends(signal.SIGTERM) == 0
    stored = [json.loads(payload) for payload in await server.stored()]
    assert not [each for each in stored if each["data_type"] == "gap"]

    def told(exchange: str, data_type: str, **fields: Any) -> list[dict[str, Any]]:
        """The messages that say this."""
        said = {"exchange": exchange, "data_type": data_type, **fields}
        return [each for each in stored if all(each[key] == said[key] for key in said)]

    (funding,) = told("binance", "funding_rate", current_funding_rate="0.5")
    assert (funding["funding_time"], funding["next_funding_time"]) == (None, None)
    assert (funding["mark_price"], funding["funding_interval"]) == ("100", "8h")
    (funding,) = told("okx", "funding_rate", current_funding_rate="0.5")
    assert (funding["funding_time"], funding["funding_interval"]) == (None, None)
    for exchange in ("binance", "okx"):
        (liquidation,) = told(exchange, "liquidation", side=None)
        assert (liquidation["price"], liquidation["average_price"]) == (None, None)
    assert liquidation["contracts"] == "7"
    nursery.cancel_scope.cancel()
