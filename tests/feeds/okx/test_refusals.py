"""What OKX refuses, answers oddly or never answers, and that none of it is for ever."""

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from okx_line import BTC, SPOT_CONFIG, START, SWAP, SWAP_CONFIG, OkxChain, OkxLine, moment, push

from marketprism.feeds.actions import Action, Close, Fetch, Park, Reject, Rotate, Send
from marketprism.feeds.okx import OkxSpot
from marketprism.records import DataType, Gap, Trade
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription

BOOK: Stream = (DataType.ORDERBOOK, "BTC-USDT")
TRADES: Stream = (DataType.TRADE, "BTC-USDT")
LIQUIDATIONS: Stream = (DataType.LIQUIDATION, "BTC-USDT-SWAP")
Answers = Callable[[dict[str, Any]], list[dict[str, Any]]]
"""What a command is answered with."""


def granted(command: dict[str, Any]) -> list[dict[str, Any]]:
    """What OKX answers, as a rule."""
    return [{"event": command["op"], "arg": arg, "connId": "a"} for arg in command["args"]]


def error(code: str, words: str = "no", **more: object) -> dict[str, Any]:
    """A refusal."""
    return {"event": "error", "code": code, "msg": words, "connId": "a", **more}


def unknown(arg: dict[str, str]) -> dict[str, Any]:
    """OKX's own words."""
    named = ",".join(f"{key}:{value}" for key, value in arg.items())
    return error("60018", f"Wrong URL or {named} doesn't exist. Please use the correct URL.")


def refusing(code: str, words: str = "no", only: str = "subscribe") -> Answers:
    """One that refuses whole commands of that kind, without a word on what they were about."""
    return lambda said: [error(code, words)] if said["op"] == only else granted(said)


def without(*ops: str) -> Answers:
    """One whose answers to these are lost."""
    return lambda command: [] if command["op"] in ops else granted(command)


@attrs.define
class Answered(OkxLine):
    """A line whose far end answers as the test will have it."""

    answers: Answers = granted

    def obey(self, payload: str) -> None:
        if payload == "ping":
            super().obey(payload)
            return
        command = json.loads(payload)
        self.said.append(command)
        answers = self.answers(command)
        for answer in answers:
            self.hear(json.dumps(answer).encode())
        refused = any(answer["event"] == "error" for answer in answers if "event" in answer)
        for arg in command["args"]:
            if arg["channel"] == "books" and command["op"] == "subscribe" and not refused:
                picture = self.snapshots(arg["instId"])
                if picture is not None:
                    self.hear(picture)

    def actions(self, kind: type[Action]) -> list[Any]:
        return [step for turn in self.outputs for step in turn.actions if isinstance(step, kind)]

    def asked(self, operation: str = "subscribe") -> list[list[str]]:
        """The channels of the commands of that kind."""
        return [
            [arg["channel"] for arg in command["args"]]
            for command in self.said
            if command["op"] == operation
        ]

    def phases(self) -> set[Phase]:
        return {state.phase for state in self.session.streams.values()}

    def gaps(self) -> list[Gap]:
        return [r for turn in self.outputs for r in turn.records if isinstance(r, Gap)]

    def ended(self) -> list[Any]:
        return self.actions(Close) + self.actions(Rotate)


def trade(number: int) -> bytes:
    """A trade's push."""
    at = str(START // 1_000_000 + number)
    fields = {"tradeId": str(number), "px": "100.5", "sz": "0.25", "side": "sell", "ts": at}
    return push("trades", "BTC-USDT", fields)


def trades(line: OkxLine) -> list[int]:
    """The ids of all that were published."""
    records = [record for turn in line.outputs for record in turn.records]
    return [int(record.trade_id) for record in records if isinstance(record, Trade)]


def true(line: OkxLine, chain: OkxChain, number: int = -1) -> bool:
    """The consumer's book is the exchange's, and nothing published broke a promise."""
    book = line.consumer.books["BTC-USDT"]
    assert line.consumer.faults == []
    return (book.last_id, book.bids, book.asks) == attrs.astuple(chain.truths[number])


# Refusals that pass


def test_a_resubscription_that_is_refused_once_is_made_again() -> None:
    """One missed update, one 50026: the book is parked in its words, and lives a second later."""
    chain = OkxChain.made(1, 8)
    line = Answered(snapshots=lambda _: chain.snapshot(0))
    line.hear(trade(1))
    line.answers = refusing("50026", "System error. Try again later.")
    line.hear(chain.frame(0), chain.frame(2))
    line.snapshots = lambda _: chain.snapshot(4)
    line.wait(0.25)
    book = line.session.streams[BOOK]
    assert (book.phase, book.detail) == (Phase.PARKED, "50026: System error. Try again later.")
    assert book.cursor.gap is not None
    assert line.session.streams[TRADES].phase is Phase.LIVE
    line.answers = granted
    line.wait(1)
    assert (book.phase, book.detail) == (Phase.LIVE, None)
    line.hear(*(chain.frame(n) for n in range(4, 8)))
    assert true(line, chain)
    (gap,) = line.gaps()
    first, last = chain.truths[1].last_id + 1, chain.truths[4].last_id
    assert (gap.reason, gap.first_missing_id, gap.last_missing_id) == ("sequence", first, last)
    assert line.actions(Park) == [Park(BOOK, "50026: System error. Try again later.")]
    assert not line.ended() + line.actions(Fetch)


@pytest.mark.parametrize("code", ["50001", "50011", "50013", "50026", "60014", "63999", "64003"])
def test_while_okx_cannot_one_stream_asks_for_all(code: str) -> None:
    """By backoff; when it is granted the others follow at once, books with their snapshots."""
    chain = OkxChain.made(1, 8)
    line = Answered(answers=refusing(code), snapshots=lambda _: chain.snapshot(0))
    line.wait(5)
    assert line.phases() == {Phase.PARKED}
    assert all(len(channels) == 1 for channels in line.asked()[1:])
    assert 2 < len(line.asked()) < 8
    line.answers = granted
    line.wait(8)
    assert sorted(state.phase for state in line.session.streams.values()) == [
        Phase.ACKNOWLEDGED,
        Phase.LIVE,
    ]
    line.hear(chain.frame(0), trade(1))
    assert line.phases() == {Phase.LIVE}
    assert true(line, chain, 1)
    assert not line.ended() + line.actions(Fetch)


def test_an_hour_in_which_okx_cannot_leaves_operations_for_its_end() -> None:
    """It is asked all the while."""
    line = Answered(answers=refusing("50001"))
    line.wait(3600)
    assert 200 < sum(map(len, line.asked())) < 350
    line.answers = granted
    line.wait(16)
    assert line.phases() == {Phase.ACKNOWLEDGED}


def test_a_subscription_that_tells_though_neither_leaving_nor_asking_was_granted_lives() -> None:
    """OKX refuses both commands of a renewal: the old subscription goes on, and is believed."""
    chain = OkxChain.made(1, 12)
    line = Answered(snapshots=lambda _: chain.snapshot(0))
    line.answers = lambda command: [error("50026")]
    line.hear(chain.frame(0), chain.frame(2))
    line.wait(0.25)
    assert line.session.streams[BOOK].phase is Phase.PARKED
    line.hear(chain.frame(5), chain.frame(6))
    assert line.session.streams[BOOK].phase is Phase.ACKNOWLEDGED
    line.wait(6)
    line.answer(chain.body(6))
    line.hear(*(chain.frame(n) for n in range(7, 12)))
    assert true(line, chain)
    assert len(line.gaps()) == 1


# Other refusals


def test_an_instrument_that_lists_later_lives_within_half_a_minute() -> None:
    """60018 until then; its neighbour is not touched."""

    def answers(command: dict[str, Any]) -> list[dict[str, Any]]:
        said = granted(command)
        if line_seconds() < 15:
            said[0] = unknown(command["args"][0])
        return said

    seconds = [0.0]

    def line_seconds() -> float:
        return seconds[0]

    chain = OkxChain.made(1, 8)
    line = Answered(answers=answers, snapshots=lambda _: chain.snapshot(0))
    assert line.session.streams[BOOK].phase is Phase.PARKED
    assert (line.session.streams[BOOK].detail or "").startswith("60018: Wrong URL or channel:books")
    assert line.session.streams[TRADES].phase is Phase.ACKNOWLEDGED
    for _ in range(120):
        seconds[0] = line.seconds
        line.wait(0.25)
    assert line.session.streams[BOOK].phase is Phase.LIVE
    assert line.asked() == [["books", "trades"], ["books"]]
    line.hear(chain.frame(0))
    assert true(line, chain, 1)


def test_what_stays_refused_is_asked_for_slowly_and_told_once() -> None:
    """Within a tenth of the hour's operations."""
    ids = [f"C{number}-USDT" for number in range(30)]
    line = Answered(
        attrs.evolve(SPOT_CONFIG, data_types=(DataType.TRADE,)),
        [attrs.evolve(BTC, native_id=one, symbol=one) for one in ids],
        answers=lambda command: [unknown(arg) for arg in command["args"]],
    )
    assert line.phases() == {Phase.PARKED}
    line.wait(31)
    assert 2 <= len(line.asked()) <= 3
    line.wait(3550)
    assert 0 < sum(map(len, line.asked()[1:])) <= 47
    assert len(line.actions(Park)) == 30
    line.answers = granted
    line.wait(340)
    assert line.phases() == {Phase.ACKNOWLEDGED}


@pytest.mark.parametrize(
    "form",
    [
        lambda command: error("60012", "Invalid request"),
        lambda command: error("60012", f"Illegal request: {json.dumps(command)}"),
        lambda command: {"code": "60012", "msg": "Invalid request"},
        lambda command: {"id": None, "code": 60012, "msg": "Invalid request", "data": []},
        lambda command: {"event": "error", "arg": None, "code": 60012, "msg": "Invalid request"},
    ],
)
def test_an_error_of_any_form_is_divided(form: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The argument to blame is found, and no other stream is without."""
    ids = [f"C{number}-USDT" for number in range(8)]

    def answers(command: dict[str, Any]) -> list[dict[str, Any]]:
        bad = any(arg["instId"] == "C5-USDT" for arg in command["args"])
        return [form(command)] if bad else granted(command)

    line = Answered(
        attrs.evolve(SPOT_CONFIG, data_types=(DataType.TRADE,)),
        [attrs.evolve(BTC, native_id=one, symbol=one) for one in ids],
        answers=answers,
    )
    without = [
        id_ for (_, id_), state in line.session.streams.items() if state.phase is Phase.PARKED
    ]
    assert without == ["C5-USDT"]
    assert len(line.said) <= 1 + 2 * 3


def test_an_error_that_names_its_argument_blames_that_alone() -> None:
    """As the acknowledgement would."""
    line = Answered(
        answers=lambda command: [error("60018", arg=command["args"][0]), granted(command)[1]]
    )
    assert line.session.streams[BOOK].phase is Phase.PARKED
    assert line.session.streams[TRADES].phase is Phase.ACKNOWLEDGED
    assert len(line.said) == 1


def test_a_refused_book_is_not_fetched_meanwhile() -> None:
    """It would have nothing to go on with."""
    line = Answered(answers=refusing("60018"))
    line.wait(25)
    assert line.actions(Fetch) == []


def test_what_parked_liquidations_missed_is_told_when_they_are_heard_again() -> None:
    """From where sight of them was lost."""
    config = attrs.evolve(SWAP_CONFIG, data_types=(DataType.LIQUIDATION,))
    line = Answered(config, [SWAP])
    line.wait(5)
    line.cut()
    line.answers = refusing("50013")
    line.connect()
    line.wait(20)
    assert line.session.streams[LIQUIDATIONS].cursor.gap is not None
    assert line.gaps() == []
    line.answers = granted
    line.wait(16)
    (gap,) = line.gaps()
    assert gap.ended_at - gap.started_at > 20_000_000_000


# Acknowledgements


def test_an_acknowledgement_that_names_one_of_two_leaves_the_other_to_be_asked_for() -> None:
    """When its time is over, alone; unless it has spoken by then."""
    line = Answered(answers=lambda command: granted(command)[:1])
    line.wait(21)
    assert line.asked() == [["books", "trades"], ["trades"]]
    assert line.session.streams[TRADES].phase is Phase.ACKNOWLEDGED
    line = Answered(answers=lambda command: granted(command)[:1])
    line.hear(trade(1))
    line.wait(60)
    assert line.asked() == [["books", "trades"]]
    assert not line.ended()


def test_what_speaks_is_confirmed_though_nothing_was_acknowledged() -> None:
    """A book, trades; a book that tells no snapshot is fetched all the same."""
    chain = OkxChain.made(1, 80)
    line = Answered(answers=lambda command: [])
    for number in range(80):
        line.hear(chain.frame(number), trade(number))
        line.wait(1)
        if number == 6:
            line.answer(chain.body(7))
    assert line.phases() == {Phase.LIVE}
    assert true(line, chain)
    assert len(line.said) == 1
    assert not line.ended()


def test_what_is_neither_acknowledged_nor_heard_of_is_asked_for_again() -> None:
    """Then a new connection takes over where another stream speaks; else this one is closed."""
    quiet = Answered(answers=lambda command: [])
    quiet.wait(41)
    assert quiet.asked() == [["books", "trades"]] * 2
    assert [str(close.error) for close in quiet.actions(Close)] == [
        "books of BTC-USDT was asked for twice and not answered"
    ]
    speaking = Answered(answers=lambda command: [])
    for number in range(41):
        speaking.hear(trade(number))
        speaking.wait(1)
    assert speaking.asked() == [["books", "trades"], ["books"]]
    assert speaking.actions(Rotate) == [
        Rotate("books of BTC-USDT was asked for twice and not answered")
    ]
    assert not speaking.actions(Close)
    assert trades(speaking) == [*range(41)]


def test_time_in_our_own_queue_is_no_silence_of_the_exchange() -> None:
    """What was not sent cannot be answered; nor can a ping."""
    session = OkxSpot(SPOT_CONFIG).plan([Subscription(DataType.TRADE, BTC)])[0].open({})
    session.opening(moment(0))
    actions = [step for second in range(300) for step in session.tick(moment(second)).actions]
    assert {step.payload for step in actions if isinstance(step, Send)} == {"ping"}
    assert all(isinstance(step, Send) for step in actions)
    session.sent(1, moment(300))
    actions = session.tick(moment(319)).actions + session.tick(moment(321)).actions
    assert any(isinstance(step, Send) and "trades" in step.payload for step in actions)


# Renewals


def crowd(count: int = 40) -> Answered:
    """The trades of many instruments, all of which have told one."""
    ids = [f"C{number}-USDT" for number in range(count)]
    config = attrs.evolve(SPOT_CONFIG, data_types=(DataType.TRADE,))
    line = Answered(config, [attrs.evolve(BTC, native_id=one, symbol=one) for one in ids])
    line.hear(*(trade(1).replace(b"BTC-USDT", one.encode()) for one in ids))
    return line


def test_a_halt_of_half_of_the_streams_costs_the_other_half_nothing() -> None:
    """Their renewals are two messages."""
    line = crowd()
    line.said.clear()
    silent = list(line.session.streams)[:20]
    for stream in silent:
        line.did(line.session.renew(stream, line.now))
    others = [one for _, one in list(line.session.streams)[20:]]
    for number in range(2, 62):
        line.hear(*(trade(number).replace(b"BTC-USDT", one.encode()) for one in others))
        line.wait(1)
    assert [(said["op"], len(said["args"])) for said in line.said] == [
        ("unsubscribe", 20),
        ("subscribe", 20),
    ]
    assert len(trades(line)) == 40 + 20 * 60
    assert not line.gaps()
    assert not line.ended()
    line.hear(*(trade(99).replace(b"BTC-USDT", one.encode()) for _, one in silent))
    assert len(line.gaps()) == 20


def test_a_stream_that_speaks_again_in_time_is_not_renewed() -> None:
    """It has lost nothing, either."""
    line = crowd(2)
    line.said.clear()
    stream = (DataType.TRADE, "C0-USDT")
    line.session.renew(stream, line.now)
    line.hear(trade(2).replace(b"BTC-USDT", b"C0-USDT"))
    line.wait(2)
    assert line.said == []
    assert line.session.streams[stream].cursor.gap is None


@pytest.mark.parametrize("lost", [("unsubscribe",), ("subscribe",), ("unsubscribe", "subscribe")])
def test_lost_answers_to_the_renewal_of_trades_cut_nothing(lost: tuple[str, ...]) -> None:
    """What may be of the subscription that is being left is not heard: it lies in the gap."""
    line = Answered(attrs.evolve(SPOT_CONFIG, data_types=(DataType.TRADE,)))
    line.hear(trade(1))
    line.answers = without(*lost)
    line.session.renew(TRADES, line.now)
    for number in range(2, 60):
        line.wait(1)
        line.hear(trade(number))
    assert trades(line) == [1, *range(22 if len(lost) == 2 else 2, 60)]
    assert len(line.gaps()) == 1
    assert line.phases() == {Phase.LIVE}
    assert not line.ended()


@pytest.mark.parametrize("lost", [("unsubscribe",), ("subscribe",), ("unsubscribe", "subscribe")])
def test_lost_answers_to_the_renewal_of_a_book_cut_nothing(lost: tuple[str, ...]) -> None:
    """Its snapshot shows that the new subscription stands."""
    chain = OkxChain.made(1, 60)
    line = Answered(snapshots=lambda _: chain.snapshot(0))
    line.hear(chain.frame(0))
    line.answers, line.snapshots = without(*lost), lambda _: chain.snapshot(4)
    line.session.renew(BOOK, line.now)
    line.wait(0.25)
    for number in range(4, 60):
        line.hear(chain.frame(number))
        line.wait(1)
    assert true(line, chain)
    assert [gap.reason for gap in line.gaps()] == ["stale"]
    assert len(line.said) == 3
    assert not line.ended() + line.actions(Park)


def test_answers_in_reverse_order_are_answers() -> None:
    """The subscription's before that to what was left."""
    chain = OkxChain.made(1, 20)
    line = Answered(snapshots=lambda _: chain.snapshot(0))
    line.hear(chain.frame(0), trade(1))
    held: list[dict[str, Any]] = []

    def late(command: dict[str, Any]) -> list[dict[str, Any]]:
        held.extend(granted(command))
        return []

    line.answers, line.snapshots = late, lambda _: None
    line.session.renew(BOOK, line.now)
    line.session.renew(TRADES, line.now)
    line.wait(1)
    line.hear(trade(2), chain.frame(1))
    for answer in sorted(held, key=lambda answer: answer["event"]):
        line.hear(json.dumps(answer).encode())
    line.hear(chain.snapshot(5), trade(3))
    for number in range(5, 20):
        line.hear(chain.frame(number))
        line.wait(2)
    assert true(line, chain)
    assert trades(line) == [1, 3]
    assert sorted(gap.affected for gap in line.gaps()) == [DataType.ORDERBOOK, DataType.TRADE]
    assert len(line.said) == 5
    assert not line.ended()


def test_what_went_over_to_another_connection_is_not_asked_for_any_more() -> None:
    """Nor missed: what its connection still tells of it is no fault."""
    line = Answered(answers=lambda command: granted(command)[:1])
    line.session.hand_over(TRADES)
    line.wait(60)
    assert line.asked() == [["books", "trades"]]
    turn = line.hear(trade(1))
    assert not [step for step in turn.actions if isinstance(step, Reject)]
    assert not line.ended()
