"""What Deribit refuses, leaves out or never answers, and that none of it is for ever."""

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from deribit_line import BTC, CONFIG, STREAM, Line, candles, moment, said, seconds, told

from marketprism.errors import RateLimited
from marketprism.feeds.actions import Action, Close, FetchFailed, Output, Park, Reject, Rotate, Send
from marketprism.feeds.deribit import DeribitDerivatives
from marketprism.feeds.deribit.answers import interpret
from marketprism.feeds.http_answers import HttpAnswer
from marketprism.records import DataType
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Stream, Subscription

ETHER: Stream = (DataType.VOLATILITY_INDEX, "eth_usd")
SUBSCRIBE, UNSUBSCRIBE = "public/subscribe", "public/unsubscribe"
Answer = Callable[[dict[str, Any]], object]


def granted(request: dict[str, Any]) -> dict[str, Any]:
    """What Deribit answers, as a rule."""
    return {"id": request["id"], "result": request["params"].get("channels", "ok")}


def refusing(code: int, words: str = "no", only: str = SUBSCRIBE) -> Answer:
    """An exchange that refuses these requests."""

    def answer(request: dict[str, Any]) -> object:
        if request["method"] != only:
            return granted(request)
        return {"id": request["id"], "error": {"code": code, "message": words}}

    return answer


@attrs.define
class Answered(Line):
    """A line whose far end answers every request, as the test will have it, when it was sent."""

    answer_to: Answer = granted
    asked: list[dict[str, Any]] = attrs.field(factory=list)

    def grant(self, turn: Output) -> Output:
        return turn

    def did(self, turn: Output) -> Output:
        super().did(turn)
        for request in said(turn):
            self.asked.append(request)
            answer = self.answer_to(request)
            if answer is not None:
                self.hear(json.dumps({"jsonrpc": "2.0", **answer}).encode())  # type: ignore[dict-item]
        return turn

    def actions(self, kind: type[Action]) -> list[Any]:
        return [step for turn in self.outputs for step in turn.actions if isinstance(step, kind)]

    def channels(self, method: str = SUBSCRIBE) -> list[list[str]]:
        """The indices of the requests of that method."""
        return [
            [name.rpartition(".")[2] for name in request["params"]["channels"]]
            for request in self.asked
            if request["method"] == method
        ]

    def phases(self) -> set[Phase]:
        return {state.phase for state in self.session.streams.values()}

    def tell(self, until: float) -> None:
        """A second's value of both indices each second, until then."""
        while self.seconds < until:
            self.hear(told(int(self.seconds)), told(int(self.seconds), index="eth_usd"))
            self.wait(1)


# Refusals


def test_maintenance_in_which_our_own_renewal_is_refused_ends_for_us_as_well() -> None:
    """The socket stands for 92 s, heartbeats are answered, nothing comes, and subscribing is
    refused: both indices live at once afterwards, and nothing is missing.
    """
    line = Answered()
    line.tell(10)
    line.answer_to = refusing(11051, "system_maintenance")
    line.wait(60)
    for stream in (STREAM, ETHER):
        line.did(line.session.renew(stream, line.now))
    line.wait(32)
    assert line.phases() == {Phase.PARKED}
    assert {state.detail for state in line.session.streams.values()} == {
        "11051: system_maintenance"
    }
    assert all(line.cursors[stream].gap is not None for stream in (STREAM, ETHER))
    assert sorted(park.stream for park in line.actions(Park)) == [STREAM, ETHER]
    assert len(line.channels()) < 12
    line.answer_to = granted
    over = line.seconds
    line.wait(16)
    assert line.phases() == {Phase.ACKNOWLEDGED}
    assert line.session.streams[STREAM].detail is None
    line.hear(told(over), told(over, index="eth_usd"))
    for fetch in line.fetches[-2:]:
        line.fetches.append(fetch)
        line.answer(candles(9, int(over)))
    assert line.phases() == {Phase.LIVE}
    assert "gap" not in seconds(line.records)
    assert not line.actions(Close) + line.actions(Rotate)


@pytest.mark.parametrize(
    "code", [10040, 10041, 10047, 10066, 11051, 11094, 13028, 13888, "11051"], ids=str
)
def test_what_passes_is_asked_for_again_by_backoff(code: int) -> None:
    """One index asks for both, every 15 s at last; when it is granted, the other follows."""
    line = Answered(answer_to=refusing(code))
    assert line.phases() == {Phase.PARKED}
    line.wait(60)
    assert all(len(channels) == 1 for channels in line.channels()[1:])
    assert 5 < len(line.channels()) < 12
    line.answer_to = granted
    line.wait(16)
    assert line.phases() == {Phase.ACKNOWLEDGED}


def test_asking_too_much_ends_the_connection_whatever_was_asked() -> None:
    """Deribit closes it as well; the host is left alone, and nothing is parked."""
    line = Answered(answer_to=refusing(10028, "too_many_requests"))
    (close,) = line.actions(Close)
    assert isinstance(close.error, RateLimited)
    assert not line.actions(Park)


def test_another_refusal_is_asked_about_after_half_a_minute_and_then_slowly() -> None:
    """It is none for ever either; in the same words it is told once."""
    line = Answered(answer_to=refusing(11050, "bad_request"))
    assert line.channels() == [["btc_usd", "eth_usd"], ["btc_usd"], ["eth_usd"]]
    line.wait(31)
    asked = len(line.channels())
    assert asked > 3
    line.wait(230)
    assert len(line.channels()) == asked
    line.answer_to = granted
    line.wait(100)
    assert line.phases() == {Phase.ACKNOWLEDGED}
    assert len(line.actions(Park)) == 2


def test_a_channel_that_an_answer_leaves_out_is_asked_for_again() -> None:
    """Alone; the one that was granted is left in peace."""

    def without_ether(request: dict[str, Any]) -> object:
        names = [name for name in request["params"].get("channels", []) if "eth" not in name]
        return granted(request) | {"result": names}

    line = Answered(answer_to=without_ether)
    assert line.session.streams[STREAM].phase is Phase.ACKNOWLEDGED
    assert line.session.streams[ETHER].phase is Phase.PARKED
    line.answer_to = granted
    line.wait(31)
    assert line.channels()[1:] == [["eth_usd"]]
    assert line.session.streams[ETHER].phase is Phase.ACKNOWLEDGED


def test_a_parked_index_that_speaks_is_live() -> None:
    """Whatever was said of it; and it is not asked for again."""
    line = Answered(answer_to=lambda request: granted(request) | {"result": []})
    assert line.phases() == {Phase.PARKED}
    line.hear(told(1), told(1, index="eth_usd"))
    assert line.phases() == {Phase.LIVE}
    assert line.session.streams[STREAM].detail is None
    line.wait(60)
    assert len(line.channels()) == 1


@pytest.mark.parametrize(
    "form",
    [
        lambda number: {"error": {"code": 11050, "message": "bad"}},
        lambda number: {"id": None, "error": {"code": 11050, "message": "bad"}},
        lambda number: {"id": number, "code": 11050, "message": "bad"},
        lambda number: {"id": None, "code": 11050, "message": "bad"},
        lambda number: {"code": "11050", "message": "bad", "status": 400},
        lambda number: {"id": str(number), "error": {"code": "11050", "message": "bad"}},
    ],
)
def test_an_error_of_any_form_is_divided(form: Callable[[int], dict[str, Any]]) -> None:
    """Flat, without an id, with a null one: the index to blame is found, the other is live."""

    def answer(request: dict[str, Any]) -> object:
        bad = request["method"] == SUBSCRIBE and any(
            "eth" in n for n in request["params"]["channels"]
        )
        return form(request["id"]) if bad else granted(request)

    line = Answered(answer_to=answer)
    assert line.session.streams[STREAM].phase is Phase.ACKNOWLEDGED
    assert line.session.streams[ETHER].phase is Phase.PARKED
    assert line.session.streams[ETHER].detail == "11050: bad"


# Answers that are lost, odd, or in another order


@pytest.mark.parametrize(
    "odd",
    [
        lambda answer: answer | {"id": str(answer["id"])},
        lambda answer: answer | {"usIn": "1", "usOut": "2", "testnet": False, "status": 200},
        lambda answer: answer | {"result": "ok"},
        lambda answer: answer | {"result": {"channels": answer["result"]}},
        lambda answer: answer | {"result": None},
    ],
)
def test_an_answer_of_another_form_is_one(odd: Callable[[dict[str, Any]], object]) -> None:
    """The id as text, other keys beside, a result that is no list."""
    line = Answered(answer_to=lambda request: odd(granted(request)))
    assert line.phases() == {Phase.ACKNOWLEDGED}
    line.wait(60)
    assert len(line.channels()) == 1
    assert not line.actions(Close) + line.actions(Rotate) + line.actions(Reject)


def test_what_speaks_is_confirmed_though_nothing_was_ever_answered() -> None:
    """Neither subscriptions nor heartbeats: the connection tells values, so it lives."""
    line = Answered(answer_to=lambda request: None)
    test = json.dumps({"method": "heartbeat", "params": {"type": "test_request"}}).encode()
    for second in range(60):
        line.hear(told(second), told(second, index="eth_usd"))
        if second % 10 == 0:
            line.hear(test)
        line.wait(1)
    assert line.phases() == {Phase.LIVE}
    assert len(line.channels()) == 1
    assert not line.actions(Close) + line.actions(Rotate)


def test_what_is_neither_answered_nor_heard_of_is_asked_for_again_and_then_given_up() -> None:
    """Alone on its connection, that is closed; where another index speaks, a new connection takes
    over, and nothing is lost.
    """
    mute = [line := Answered(answer_to=lambda request: None), Answered(answer_to=line.answer_to)]
    for number, line in enumerate(mute):
        # Heartbeats are answered.
        line.hear(b'{"id":1,"result":"ok"}')
        for _ in range(31):
            if number:
                line.hear(told(line.seconds))
            line.wait(1)
        assert line.channels()[1:] == [["eth_usd"] if number else ["btc_usd", "eth_usd"]]
    quiet, speaking = mute
    assert [str(close.error) for close in quiet.actions(Close)] == [
        "deribit_volatility_index.btc_usd was asked for twice and not answered"
    ]
    assert not quiet.actions(Rotate)
    assert speaking.actions(Rotate) == [
        Rotate("deribit_volatility_index.eth_usd was asked for twice and not answered")
    ]
    assert not speaking.actions(Close)


def test_time_in_our_own_queue_is_no_silence_of_the_exchange() -> None:
    """What was not sent cannot be answered."""
    session = (
        DeribitDerivatives(CONFIG).plan([Subscription(DataType.VOLATILITY_INDEX, BTC)])[0].open({})
    )
    session.opening(moment(0))
    assert session.tick(moment(300)).actions == []
    session.sent(1, moment(300))
    session.sent(2, moment(300))
    assert session.tick(moment(314)).actions == []
    heartbeat, subscribe = session.tick(moment(316)).actions
    assert isinstance(heartbeat, Close)
    assert isinstance(subscribe, Send)


def test_heartbeats_that_are_refused_are_asked_for_again() -> None:
    """Half a minute later; nothing else is disturbed."""
    line = Answered(answer_to=refusing(11051, only="public/set_heartbeat"))
    line.wait(29)
    asked = [request["method"] for request in line.asked]
    assert asked == ["public/set_heartbeat", SUBSCRIBE]
    line.wait(2)
    assert line.asked[-1]["method"] == "public/set_heartbeat"
    assert line.phases() == {Phase.ACKNOWLEDGED}


# Renewals


def renewed(answer: Answer) -> Answered:
    """A line both of whose indices are renewed after a silence of half a minute."""
    line = Answered()
    line.tell(10)
    line.wait(30)
    line.answer_to = answer
    for stream in (STREAM, ETHER):
        line.did(line.session.renew(stream, line.now))
    line.wait(1)
    return line


def test_renewals_are_said_together() -> None:
    """Two indices that fall silent at once: two requests."""
    line = renewed(granted)
    assert line.channels(UNSUBSCRIBE) == [["btc_usd", "eth_usd"]]
    assert line.channels() == [["btc_usd", "eth_usd"]] * 2


def test_a_renewal_is_not_needed_by_what_speaks_again() -> None:
    """It is neither left nor asked for."""
    line = Answered()
    line.tell(10)
    line.wait(30)
    line.did(line.session.renew(STREAM, line.now))
    line.hear(told(40))
    line.wait(2)
    assert line.channels(UNSUBSCRIBE) == []


@pytest.mark.parametrize("lost", [UNSUBSCRIBE, SUBSCRIBE, "both"])
def test_lost_answers_to_a_renewal_cut_nothing(lost: str) -> None:
    """Where neither comes, the time for them is waited for: what comes before then may be of the
    subscription that is being left.
    """
    line = renewed(
        lambda request: None if lost in (request["method"], "both") else granted(request)
    )
    line.tell(60)
    assert line.phases() == {Phase.LIVE}
    assert len(line.channels()) == (3 if lost == "both" else 2)
    for fetch in line.fetches[-2:]:
        line.fetches.append(fetch)
        line.answer(candles(9, 60))
    assert "gap" not in seconds(line.records)
    assert not line.actions(Close) + line.actions(Rotate)


def test_answers_in_reverse_order_are_answers() -> None:
    """The subscription's first; what it tells is heard from then on."""
    held: list[dict[str, Any]] = []

    def late(request: dict[str, Any]) -> object:
        held.append(granted(request))
        return None

    line = renewed(late)
    for answer in reversed(held):
        line.hear(json.dumps(answer).encode())
        line.hear(told(line.seconds))
    line.tell(60)
    assert line.phases() == {Phase.LIVE}
    assert len(line.channels()) == 2


# What is filled in


def test_a_refusal_of_candles_that_passes_is_no_word_on_their_width() -> None:
    """The same is asked again, by the second."""
    line = Line()
    line.hear(told(1))
    line.reconnected(20.5)
    body = b'{"error":{"code":11051,"message":"system_maintenance"}}'
    meaning = interpret(HttpAnswer(400, {}, body), line.now.wall)
    line.answer(FetchFailed(400, None, body, meaning))
    line.wait(2.25)
    assert line.fetches[-1].url.endswith("resolution=1")
    assert seconds(line.answer(candles(0, 20)).records) == [*range(2, 21), 20.5]
