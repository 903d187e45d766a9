"""OKX sessions but for books, as one would play the exchange by hand."""

import json
from typing import Any

import attrs
import pytest
from forms import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from okx_line import (
    BTC,
    INVERSE,
    SECOND,
    SPOT_CONFIG,
    START,
    SWAP,
    SWAP_CONFIG,
    OkxChain,
    OkxLine,
    moment,
    push,
)

from marketprism.errors import Lost
from marketprism.feeds import capability
from marketprism.feeds.actions import Close, Output, Park, Reject, Rotate, Send
from marketprism.feeds.okx import OkxDerivatives, OkxSpot
from marketprism.records import (
    DataType,
    FundingRate,
    Gap,
    Liquidation,
    OpenInterest,
    Trade,
)
from marketprism.resume import cursors as restart
from marketprism.settings.exchanges import VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription
from marketprism.wire import encode

MILLISECOND = 1_000_000
NOW = START // MILLISECOND
TRADES: Stream = (DataType.TRADE, "BTC-USDT")


def line_of(*data_types: DataType) -> OkxLine:
    """A line of both perpetuals, linear and inverse."""
    return OkxLine(attrs.evolve(SWAP_CONFIG, data_types=data_types), [SWAP, INVERSE])


def trade(number: int, **changes: object) -> bytes:
    """A trade's push."""
    fields = {
        "instId": "BTC-USDT",
        "tradeId": str(number),
        "px": "100.5",
        "sz": "0.25",
        "side": "sell",
        "ts": str(NOW + number),
        "count": "1",
        "source": "0",
        "seqId": 7,
    }
    return push("trades", "BTC-USDT", fields | changes)


def numbers(*outputs: Output) -> list[str]:
    """The ids of the trades of these turns."""
    return [r.trade_id for turn in outputs for r in turn.records if isinstance(r, Trade)]


def gaps(line: OkxLine) -> list[Gap]:
    """All that was published."""
    return [r for turn in line.outputs for r in turn.records if isinstance(r, Gap)]


def test_everything_is_subscribed_in_batches_by_channel_and_instrument() -> None:
    """One argument a channel of an instrument; liquidations once for all; ratios not at all."""
    limits = attrs.evolve(SWAP_CONFIG.limits, subscribe_batch=4)
    line = OkxLine(attrs.evolve(SWAP_CONFIG, limits=limits), [SWAP, INVERSE])
    assert line.session.url == "ws://stream.test/ws/v5/public"
    assert [command["op"] for command in line.said] == ["subscribe"] * 3
    assert [len(command["args"]) for command in line.said] == [4, 4, 1]
    args = [tuple(arg.values()) for command in line.said for arg in command["args"]]
    assert args == [
        ("books", "BTC-USDT-SWAP"),
        ("trades", "BTC-USDT-SWAP"),
        ("funding-rate", "BTC-USDT-SWAP"),
        ("open-interest", "BTC-USDT-SWAP"),
        ("liquidation-orders", "SWAP"),
        ("books", "BTC-USD-SWAP"),
        ("trades", "BTC-USD-SWAP"),
        ("funding-rate", "BTC-USD-SWAP"),
        ("open-interest", "BTC-USD-SWAP"),
    ]
    assert {state.phase for state in line.session.streams.values()} == {Phase.ACKNOWLEDGED}


def test_a_plan_holds_fewer_than_thirty_books_a_connection_and_keeps_what_stands() -> None:
    """Also no more channels than configured."""
    venue = OkxSpot(SPOT_CONFIG)
    many = [attrs.evolve(BTC, native_id=f"C{n}-USDT", symbol=f"C{n}-USDT") for n in range(70)]
    subscriptions = [
        Subscription(data_type, one) for one in many for data_type in SPOT_CONFIG.data_types
    ]
    shards = venue.plan(subscriptions)
    assert [shard.id for shard in shards] == ["okx_spot/0", "okx_spot/1", "okx_spot/2"]
    assert [len(shard.subscriptions) for shard in shards] == [58, 58, 24]
    more = Subscription(DataType.ORDERBOOK, BTC)
    again = venue.plan([more, *subscriptions], shards)
    assert [tuple(shard.subscriptions) for shard in again[:2]] == [
        tuple(s.subscriptions) for s in shards[:2]
    ]
    assert again[2].subscriptions[-1] == more
    left = venue.plan([more, *subscriptions[2:]], shards)
    assert [len(shard.subscriptions) for shard in left] == [57, 58, 24]
    assert left[0].subscriptions[-1] == more


def test_a_trade_gives_its_record_exactly() -> None:
    """An aggregate whose last id is its own; the side is the taker's."""
    line = OkxLine()
    turn = line.hear(trade(7, count="3"))
    assert turn.records == [
        Trade(
            BTC,
            START + 7 * MILLISECOND,
            line.now.wall,
            trade_id="7",
            price="100.5",
            quantity="0.25",
            side="sell",
            trade_kind="aggregated",
            last_trade_id="7",
        )
    ]
    (single,) = line.hear(trade(8)).records
    assert isinstance(single, Trade)
    assert (single.first_trade_id, single.last_trade_id) == ("8", "8")


def test_a_trade_in_contracts_tells_both() -> None:
    """Linear: exactly; inverse: to twelve digits."""
    line = line_of(DataType.TRADE)
    fields = {"tradeId": "1", "px": "30000", "sz": "7", "side": "buy", "ts": str(NOW)}
    (linear,) = line.hear(push("trades", "BTC-USDT-SWAP", fields)).records
    (inverse,) = line.hear(push("trades", "BTC-USD-SWAP", fields)).records
    assert isinstance(linear, Trade)
    assert isinstance(inverse, Trade)
    assert (linear.quantity, linear.contracts) == ("0.07", "7")
    assert (inverse.quantity, inverse.contracts) == ("0.0233333333333", "7")


def test_repeated_trades_are_dropped_and_those_in_no_order_are_not() -> None:
    """Of one moment, or later: an id that was not told is news."""
    line = OkxLine()
    heard = line.hear(trade(7), trade(11), trade(10, ts=str(NOW + 11)), trade(7), trade(11))
    heard.records += line.hear(trade(10), trade(21), trade(20), trade(21), trade(20)).records
    heard.records += line.hear(trade(3, ts=str(NOW + 500)), trade(21), trade(22)).records
    assert numbers(heard) == ["7", "11", "10", "21", "20", "3", "22"]
    assert line.session.streams[TRADES].duplicates == 6
    assert gaps(line) == []


def test_a_reconnect_among_trades_in_no_order_tells_each_once() -> None:
    """What is told again then, too; and one that reaches back to a known id has no gap before."""
    line = OkxLine()
    line.hear(trade(7), trade(9), trade(8))
    line.cut()
    line.connect()
    assert numbers(line.hear(trade(9), trade(8), trade(10), trade(12), trade(11))) == [
        "10",
        "12",
        "11",
    ]
    assert gaps(line) == []


def test_a_restart_among_trades_in_no_order_tells_each_once() -> None:
    """Where the last messages are known, not the last one alone."""
    stored = [encode(r) for r in OkxLine().hear(trade(7), trade(9), trade(8)).records]
    subscription = Subscription(DataType.TRADE, BTC)
    read = [
        restart.read(each.payload, subscription, moment(1).wall, capability(subscription))
        for each in stored
    ]
    cursor = restart.cursor(read[-1], stored[-1].msg_id, None, capability(subscription))
    cursor.recent = restart.recent(read, capability(subscription))
    line = OkxLine(cursors={TRADES: cursor})
    assert numbers(line.hear(trade(9), trade(8), trade(7), trade(11), trade(10))) == ["11", "10"]


def test_a_time_out_of_contact_is_a_gap_unless_ids_join() -> None:
    """An aggregate that reaches back to the last id leaves no room for another."""
    line = OkxLine()
    line.hear(trade(7))
    line.cut()
    line.connect()
    line.hear(trade(10, count="3"))
    assert gaps(line) == []
    line.cut()
    line.connect()
    line.hear(trade(14, count="3"))
    (gap,) = gaps(line)
    assert (gap.affected, gap.reason, gap.lost) == (DataType.TRADE, "disconnect", None)


def test_one_bad_element_is_rejected_beside_its_neighbours() -> None:
    """A push may hold several."""
    good = json.loads(trade(1))["data"][0]
    line = OkxLine()
    elements = [good, {**good, "px": "1_5"}, {"tradeId": 4}, 7, {**good, "tradeId": "2"}]
    turn = line.hear(push("trades", "BTC-USDT", *elements))
    assert numbers(turn) == ["1", "2"]
    reasons = [step.reason for step in turn.actions if isinstance(step, Reject)]
    assert reasons == ["bad number", "unfit event", "unfit event"]


BAD: list[tuple[bytes, str]] = [
    (b'{"arg":', "not JSON"),
    (b"\xff\xfe", "not JSON"),
    (b"[" * 5000, "not an event"),
    (b'{"arg":{"channel":"trades"},"x":' + b"[" * 100_000, "not JSON"),
    (b"[1]", "not an event"),
    (b"{}", "not an event"),
    (b'{"arg":{"channel":"trades","instId":"BTC-USDT"}}', "not an event"),
    (b'{"event":"surprise"}', "unknown event"),
    (b'{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{}]}', "unknown symbol"),
    (trade(1, ts="9" * 15), "bad number"),
    (trade(1, ts="4102444800001"), "bad number"),
    (trade(1, tradeId="9" * 25), "bad number"),
    (trade(1, tradeId=str(2**63)), "bad number"),
    (trade(1, tradeId="007"), "bad number"),
    *[
        (trade(1, sz=size), "bad number")
        for size in (
            "-1.0",
            "",
            "NaN",
            "Infinity",
            "1_000",
            "１２",
            "1e555",
            "1,5",
            " 1",
            ".5",
            "00",
            "007.50",
        )
    ],
]


@pytest.mark.parametrize(("frame", "reason"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_frame_is_rejected_beside_its_good_neighbours(frame: bytes, reason: str) -> None:
    """Counted under a reason; nothing else is disturbed."""
    turn = OkxLine().hear(trade(1), frame, trade(2))
    assert numbers(turn) == ["1", "2"]
    (reject,) = turn.actions
    assert isinstance(reject, Reject)
    assert reject.reason == reason


def test_it_pings_in_time_and_gives_up_without_an_answer() -> None:
    """Every twenty seconds, ten for the answer from when it was sent; what answers something else
    is no answer.
    """
    line = OkxLine()
    line.wait(50)
    assert line.pings == 2
    session = OkxSpot(SPOT_CONFIG).plan([Subscription(DataType.TRADE, BTC)])[0].open({})
    session.opening(moment(0))
    session.receive([confirmation("subscribe", "trades", "BTC-USDT")], moment(1))
    assert session.tick(moment(19)).actions == []
    assert session.tick(moment(20)).actions == [Send("ping", 2)]
    session.sent(2, moment(24))
    session.receive([confirmation("subscribe", "trades", "BTC-USDT")], moment(25))
    assert session.tick(moment(34)).actions == []
    (close,) = session.tick(moment(35)).actions
    assert isinstance(close, Close)
    assert isinstance(close.error, Lost)


def test_a_connection_that_tells_of_its_streams_lives_without_a_pong() -> None:
    """As long as it does."""
    session = OkxSpot(SPOT_CONFIG).plan([Subscription(DataType.TRADE, BTC)])[0].open({})
    session.opening(moment(0))
    actions = []
    for second in range(1, 156):
        if second % 8 == 0 and second < 121:
            session.receive([trade(second)], moment(second))
        turn = session.tick(moment(second))
        actions += [step for step in turn.actions if isinstance(step, Close)]
        for step in turn.actions:
            if isinstance(step, Send) and step.number is not None:
                session.sent(step.number, moment(second))
        assert not actions or second > 150
    assert len(actions) == 1


def confirmation(event: str, channel: str, native_id: str) -> bytes:
    """What answers a command."""
    return json.dumps(
        {"event": event, "arg": {"channel": channel, "instId": native_id}, "connId": "a"}
    ).encode()


def test_an_announced_upgrade_calls_for_another_connection_after_what_came_before() -> None:
    """Other notices and counts of connections are passed over."""
    notice = b'{"event":"notice","code":"64008","msg":"The connection will soon be closed"}'
    other = b'{"event":"channel-conn-count","channel":"books","connCount":"1","connId":"a"}'
    turn = OkxLine().hear(other, b'{"event":"notice","code":"1"}', trade(1), notice)
    assert numbers(turn) == ["1"]
    (rotate,) = turn.actions
    assert isinstance(rotate, Rotate)


def error(code: str, text: str) -> bytes:
    """A refusal."""
    return json.dumps({"event": "error", "code": code, "msg": text, "connId": "a"}).encode()


def opened(config: VenueConfig = SPOT_CONFIG, count: int = 3) -> tuple[Any, list[str]]:
    """A session of several instruments' trades that waits for its acknowledgements."""
    ids = [f"C{number}-USDT" for number in range(count)]
    subscriptions = [Subscription(DataType.TRADE, attrs.evolve(BTC, native_id=one)) for one in ids]
    session = OkxSpot(config).plan(subscriptions)[0].open({})
    asked(session, session.opening(moment(0)), 0)
    return session, ids


def asked(session: Any, turn: Output, second: float) -> list[list[str]]:
    """The instruments of what is said in a turn, which is sent."""
    sends = [step for step in turn.actions if isinstance(step, Send)]
    for send in sends:
        session.sent(send.number, moment(second))
    bodies = [json.loads(send.payload) for send in sends if send.payload != "ping"]
    return [[arg["instId"] for arg in body["args"]] for body in bodies]


def test_a_refused_argument_that_is_named_is_parked() -> None:
    """OKX names it in words."""
    session, _ = opened()
    text = (
        "Wrong URL or channel:trades,instId:C1-USDT doesn't exist. Please use the correct URL, "
        "channel and parameters referring to API document."
    )
    turn = session.receive([error("60018", text)], moment(1))
    parked = [step for step in turn.actions if isinstance(step, Park)]
    assert [park.stream for park in parked] == [(DataType.TRADE, "C1-USDT")]
    assert session.streams[DataType.TRADE, "C1-USDT"].phase is Phase.PARKED
    assert session.streams[DataType.TRADE, "C0-USDT"].phase is Phase.WANTED


def test_the_neighbours_of_a_refused_argument_are_asked_for_once_more() -> None:
    """They may have gone down with it; who does not answer that either is gone."""
    session, ids = opened()
    session.receive([error("60018", "channel:trades,instId:C1-USDT doesn't exist")], moment(1))
    assert asked(session, session.tick(moment(20.5)), 20.5)[0] == [ids[0], ids[2]]
    session.receive([confirmation("subscribe", "trades", ids[0]), b"pong"], moment(22))
    assert any(isinstance(step, Close) for step in session.tick(moment(41)).actions)


def test_several_that_nothing_names_are_divided() -> None:
    """One half after the other, so that the next refusal says more."""
    session, ids = opened()
    turn = session.receive([error("60012", "Invalid request")], moment(1))
    assert asked(session, turn, 1) == [ids[:2]]
    turn = session.receive([error("60012", "Invalid request")], moment(2))
    assert asked(session, turn, 2) == [[ids[0]]]
    turn = session.receive([confirmation("subscribe", "trades", ids[0])], moment(3))
    assert asked(session, turn, 3) == [[ids[1]]]
    turn = session.receive([error("60012", "Invalid request")], moment(4))
    (park,) = [step for step in turn.actions if isinstance(step, Park)]
    assert park.stream == (DataType.TRADE, ids[1])
    assert asked(session, turn, 4) == [[ids[2]]]


def test_too_many_requests_end_nothing() -> None:
    """No stream is to blame; they are asked for again by backoff, one for all."""
    session, ids = opened()
    turn = session.receive([error("60014", "Requests too frequent")], moment(1))
    assert not any(isinstance(step, Close) for step in turn.actions)
    assert {state.detail for state in session.streams.values()} == {"60014: Requests too frequent"}
    assert asked(session, session.tick(moment(1.5)), 1.5) == [[ids[0]]]
    turn = session.receive([confirmation("subscribe", "trades", ids[0])], moment(2))
    assert asked(session, turn, 2) == [ids[1:]]


def test_a_command_without_an_answer_ends_the_connection() -> None:
    """Twice twenty seconds from when it was sent, while nothing is told; nobody listens there."""
    session, ids = opened(
        attrs.evolve(SPOT_CONFIG, limits=attrs.evolve(SPOT_CONFIG.limits, heartbeat=0.0))
    )
    assert session.tick(moment(19)).actions == []
    assert asked(session, session.tick(moment(21)), 21) == [ids]
    assert session.tick(moment(40)).actions == []
    (close,) = session.tick(moment(42)).actions
    assert isinstance(close, Close)


def test_streams_come_and_go_on_a_live_connection() -> None:
    """Without touching the others; what still comes of one that left is no fault."""
    line = OkxLine()
    other = attrs.evolve(BTC, symbol="ETH-USDT", native_id="ETH-USDT")
    line.said.clear()
    subscriptions = [Subscription(DataType.TRADE, other)]
    turn = line.session.change(subscriptions, [Subscription(DataType.TRADE, BTC)], line.now)
    assert line.hear(trade(1)) == Output()
    line.did(turn)
    assert [(c["op"], c["args"][0]["instId"]) for c in line.said] == [
        ("unsubscribe", "BTC-USDT"),
        ("subscribe", "ETH-USDT"),
    ]
    assert set(line.session.streams) == {
        (DataType.ORDERBOOK, "BTC-USDT"),
        (DataType.TRADE, "ETH-USDT"),
    }
    (reject,) = line.hear(trade(1)).actions
    assert isinstance(reject, Reject)


def test_renewing_a_book_leaves_trades_alone() -> None:
    """A gap of reason stale, a snapshot."""
    chain = OkxChain.made(1, 4)
    line = OkxLine(snapshots=lambda _: chain.snapshot(0))
    line.hear(trade(1), chain.frame(0))
    line.snapshots = lambda _: chain.snapshot(2)
    line.did(line.session.renew((DataType.ORDERBOOK, "BTC-USDT"), line.now))
    line.wait(0.25)
    (gap,) = gaps(line)
    assert (gap.affected, gap.reason) == (DataType.ORDERBOOK, "stale")
    assert numbers(line.hear(trade(2), chain.frame(2), chain.frame(3))) == ["2"]
    assert line.consumer.faults == []


def funding(seconds: float, **changes: object) -> bytes:
    """A funding push, so many seconds into the test."""
    fields: dict[str, object] = {
        "formulaType": "noRate",
        "fundingRate": "0.0001875391284828",
        "fundingTime": "1700006400000",
        "instId": "BTC-USDT-SWAP",
        "instType": "SWAP",
        "nextFundingRate": "",
        "nextFundingTime": "1700035200000",
        "premium": "0.0001233824646391",
        "ts": str(NOW + round(seconds * 1000)),
    }
    return push("funding-rate", "BTC-USDT-SWAP", fields | changes)


def test_a_funding_rate_gives_its_record_exactly() -> None:
    """An empty estimate is none; the interval is what lies between the two times."""
    line = line_of(DataType.FUNDING_RATE)
    (record,) = line.hear(funding(1)).records
    assert record == FundingRate(
        SWAP,
        START + SECOND,
        line.now.wall,
        current_funding_rate="0.0001875391284828",
        estimated_funding_rate=None,
        funding_time=1_700_006_400 * SECOND,
        next_funding_time=1_700_035_200 * SECOND,
        funding_interval="8h",
    )
    sparse = {"fundingTime": None, "nextFundingTime": None, "nextFundingRate": "-0.00001"}
    (record,) = line.hear(funding(40, **sparse)).records
    assert isinstance(record, FundingRate)
    assert (record.estimated_funding_rate, record.funding_interval) == ("-0.00001", None)


def test_a_funding_time_that_is_none_costs_that_time_alone() -> None:
    """31 December 9999 is a usual "no date"; and no interval is longer than a week."""
    line = line_of(DataType.FUNDING_RATE)
    (record,) = line.hear(funding(1, nextFundingTime="253402300799999")).records
    assert isinstance(record, FundingRate)
    assert (record.next_funding_time, record.funding_interval) == (None, None)
    assert record.funding_time == 1_700_006_400 * SECOND
    (record,) = line.hear(funding(40, nextFundingTime="4102444800000")).records
    assert isinstance(record, FundingRate)
    assert (record.next_funding_time, record.funding_interval) == (4_102_444_800 * SECOND, None)
    (reject,) = line.hear(funding(80, ts="4102444800001")).actions
    assert isinstance(reject, Reject)


def test_funding_is_published_when_it_changes_else_once_in_thirty_seconds() -> None:
    """The windows are the event time's, so that two collectors agree; all count as life."""
    line = line_of(DataType.FUNDING_RATE)
    stream: Stream = (DataType.FUNDING_RATE, "BTC-USDT-SWAP")
    # The test starts ten seconds before a window's end.
    heard = [line.hear(funding(seconds)) for seconds in (0, 5, 10, 12, 39, 40)]
    assert [len(turn.records) for turn in heard] == [1, 0, 1, 0, 0, 1]
    assert len(line.hear(funding(41, fundingRate="0.0002")).records) == 1
    assert line.session.streams[stream].records == 4
    before = line.session.streams[stream].last_record
    line.wait(3)
    assert line.hear(funding(44, fundingRate="0.0002")).records == []
    assert line.session.streams[stream].last_record != before


def test_open_interest_is_published_when_its_time_moves() -> None:
    """In the base asset, in contracts, in dollars where it is told."""
    line = line_of(DataType.OPEN_INTEREST)
    fields = {"oi": "5000", "oiCcy": "50.5", "oiUsd": "3000000.5", "ts": str(NOW)}
    frame = push("open-interest", "BTC-USDT-SWAP", fields)
    assert line.hear(frame).records == [
        OpenInterest(SWAP, START, line.now.wall, "50.5", "5000", "3000000.5")
    ]
    assert line.hear(frame) == Output()
    (bare,) = line.hear(
        push("open-interest", "BTC-USDT-SWAP", {"oi": "5000", "ts": str(NOW + 3000)})
    ).records
    assert isinstance(bare, OpenInterest)
    assert (bare.open_interest, bare.open_interest_value) == ("50.00", None)
    inverse = {"oi": "5", "ts": str(NOW)}
    (native,) = line.hear(push("open-interest", "BTC-USD-SWAP", inverse)).records
    assert isinstance(native, OpenInterest)
    assert (native.open_interest, native.open_interest_contracts) == (None, "5")
    nothing = {"oiUsd": "5", "ts": str(NOW + 3000)}
    (reject,) = line.hear(push("open-interest", "BTC-USD-SWAP", nothing)).actions
    assert isinstance(reject, Reject)


def liquidated(native_id: str, *details: dict[str, str]) -> dict[str, object]:
    """An element of the channel."""
    plain = {
        "bkLoss": "0",
        "bkPx": "30000",
        "ccy": "",
        "posSide": "long",
        "side": "sell",
        "sz": "12",
        "ts": str(NOW),
    }
    return {
        "details": [plain | detail for detail in details],
        "instFamily": "x",
        "instId": native_id,
        "instType": "SWAP",
        "uly": "x",
    }


def test_every_detail_of_wanted_instruments_is_a_liquidation() -> None:
    """In any order of time; equals of one push are told apart; a bad one falls alone."""
    line = line_of(DataType.LIQUIDATION)
    frame = push(
        "liquidation-orders",
        "SWAP",
        liquidated("BTC-USDT-SWAP", {}, {"ts": str(NOW - 5)}, {"ts": "x"}, {}),
        liquidated("ETH-USDT-SWAP", {}),
        liquidated("BTC-USD-SWAP", {"side": "buy", "posSide": "net"}),
    )
    turn = line.hear(frame)
    assert len([step for step in turn.actions if isinstance(step, Reject)]) == 1
    records = [record for record in turn.records if isinstance(record, Liquidation)]
    assert [record.liquidation_id for record in records] == [
        f"{NOW}:sell:long:30000:12:1",
        f"{NOW - 5}:sell:long:30000:12:1",
        f"{NOW}:sell:long:30000:12:2",
        f"{NOW}:buy:net:30000:12:1",
    ]
    assert records[0] == Liquidation(
        SWAP,
        START,
        line.now.wall,
        liquidation_id=f"{NOW}:sell:long:30000:12:1",
        side="sell",
        status=None,
        price="30000",
        average_price=None,
        quantity="0.12",
        filled_quantity=None,
        notional_value=None,
        contracts="12",
        sampled=True,
    )
    assert records[3].quantity == "0.04"


def test_silence_of_liquidations_is_trusted_from_the_acknowledgement() -> None:
    """A time out of contact ends with it, whether or not anything happens then."""
    line = line_of(DataType.LIQUIDATION)
    line.wait(5)
    line.cut()
    line.connect()
    assert [gap.instrument for gap in gaps(line)] == [SWAP, INVERSE]
    assert line.cursors[DataType.LIQUIDATION, "BTC-USD-SWAP"].gap is None


def test_liquidations_are_renewed_and_parked_together() -> None:
    """One subscription tells of them all."""
    line = line_of(DataType.LIQUIDATION)
    line.said.clear()
    line.did(line.session.renew((DataType.LIQUIDATION, "BTC-USD-SWAP"), line.now))
    line.wait(0.25)
    assert [command["args"] for command in line.said] == [
        [{"channel": "liquidation-orders", "instType": "SWAP"}]
    ] * 2
    assert len(gaps(line)) == 2
    subscriptions = [Subscription(DataType.LIQUIDATION, one) for one in (SWAP, INVERSE)]
    session = OkxDerivatives(SWAP_CONFIG).plan(subscriptions)[0].open({})
    session.opening(moment(0))
    text = "Wrong URL or channel:liquidation-orders,instType:SWAP doesn't exist."
    actions = session.receive([error("60018", text)], moment(1)).actions
    assert len([step for step in actions if isinstance(step, Park)]) == 2


def test_liquidations_of_one_more_instrument_need_no_further_subscription() -> None:
    """Nor does leaving one of several end it for the rest."""
    line = line_of(DataType.LIQUIDATION)
    line.said.clear()
    more = Subscription(DataType.LIQUIDATION, attrs.evolve(SWAP, native_id="ETH-USDT-SWAP"))
    line.did(line.session.change([more], [Subscription(DataType.LIQUIDATION, SWAP)], line.now))
    assert line.said == []
    turn = line.hear(
        push(
            "liquidation-orders",
            "SWAP",
            liquidated("BTC-USDT-SWAP", {}),
            liquidated("ETH-USDT-SWAP", {}),
        )
    )
    assert [record.instrument.native_id for record in turn.records] == ["ETH-USDT-SWAP"]


def test_liquidations_of_one_more_instrument_are_confirmed_with_the_rest() -> None:
    """Not before: an acknowledgement that is still to come is none."""
    session = (
        OkxDerivatives(SWAP_CONFIG).plan([Subscription(DataType.LIQUIDATION, SWAP)])[0].open({})
    )
    session.opening(moment(0))
    more = Subscription(DataType.LIQUIDATION, attrs.evolve(SWAP, native_id="ETH-USDT-SWAP"))
    session.change([more], [], moment(1))
    assert {state.phase for state in session.streams.values()} == {Phase.WANTED}
    arg = {"channel": "liquidation-orders", "instType": "SWAP"}
    session.receive([json.dumps({"event": "subscribe", "arg": arg}).encode()], moment(2))
    assert {state.phase for state in session.streams.values()} == {Phase.ACKNOWLEDGED}


def test_what_comes_to_a_live_connection_goes_on_from_its_cursor() -> None:
    """It is moved in place; a gap that stands open ends with the first that is heard."""
    line = OkxLine()
    other = attrs.evolve(BTC, symbol="ETH-USDT", native_id="ETH-USDT")
    subscription, cursor = Subscription(DataType.TRADE, other), Cursor(last_id=3, received=5)
    cursor.lose("metadata", "of a test")
    line.did(line.session.change([subscription], [], line.now, {subscription.stream: cursor}))
    gap, record = line.hear(trade(9).replace(b"BTC-USDT", b"ETH-USDT")).records
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.instrument) == ("metadata", other)
    assert isinstance(record, Trade)
    assert cursor.last_id == 9


FRAMES = (
    trade(1),
    funding(1).replace(b"BTC-USDT-SWAP", b"BTC-USDT"),
    push("open-interest", "BTC-USDT", {"oi": "5000", "oiCcy": "50.5", "ts": str(NOW)}),
    push("liquidation-orders", "SWAP", liquidated("BTC-USDT", {}, {"sz": "3"})),
    json.dumps({"event": "subscribe", "arg": {"channel": "trades", "instId": "BTC-USDT"}}).encode(),
)


@settings(max_examples=examples(500), deadline=None)
@given(
    frame=st.sampled_from(FRAMES),
    where=st.integers(0, 10_000),
    removed=st.integers(0, 6),
    put=st.binary(max_size=4),
)
def test_a_mutated_frame_gives_nothing_worse_than_a_reject(
    frame: bytes, where: int, removed: int, put: bytes
) -> None:
    """No exception, whatever it is turned into; and every record can be told on the wire."""
    one = attrs.evolve(INVERSE, native_id="BTC-USDT")
    line = OkxLine(SWAP_CONFIG, [one])
    at = where % (len(frame) + 1)
    turn = line.hear(frame[:at] + put + frame[at + removed :], frame)
    assert all(isinstance(step, Reject) for step in turn.actions)
    for record in turn.records:
        assert json.loads(encode(record).payload)["instrument_id"] == "BTC-USDT"
        assert encode(record).msg_id.isascii()
