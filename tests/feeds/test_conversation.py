"""What every session does, played on an exchange that has nothing of its own."""

from bourse_line import BOOK, BTC, TRADES, following, line

from marketprism.feeds.actions import Close, Park, Reject
from marketprism.instruments import Instrument
from marketprism.records import DataType, Trade
from marketprism.streams.state import Phase
from marketprism.streams.subscription import Subscription

ETH = Instrument("bourse", "spot", "ETH-USDT", "ETH-USDT")
ETH_TRADES = Subscription(DataType.TRADE, ETH)


def test_what_is_opened_asks_for_each_topic_once_and_an_answer_confirms_it() -> None:
    """In one command, as far as they may share one."""
    played = line([TRADES, BOOK])
    assert [each["topics"] for each in played.said] == [["trades:BTC-USDT", "books:BTC-USDT"]]
    assert {state.phase for state in played.session.streams.values()} == {Phase.WANTED}
    played.grant()
    assert {state.phase for state in played.session.streams.values()} == {Phase.ACKNOWLEDGED}


def test_what_tells_is_confirmed_whatever_became_of_its_command() -> None:
    """An answer that is lost costs nothing."""
    played = line([TRADES])
    played.trade("a")
    assert played.session.streams[TRADES.stream].phase is Phase.LIVE
    played.wait(60)
    assert len(played.said) == 1


def test_a_topic_that_is_refused_is_told_once_and_asked_for_again() -> None:
    """Nobody else's data is touched by it."""
    played = line([TRADES, BOOK])
    number = played.said[-1]["id"]
    refused = {"trades:BTC-USDT": "no such topic"}
    played.tell(id=number, granted=["books:BTC-USDT"], refused=refused)
    played.wait(60)
    assert [each for each in played.actions if isinstance(each, Park)] == [
        Park(TRADES.stream, "no such topic")
    ]
    assert played.session.streams[TRADES.stream].detail == "no such topic"
    assert ["trades:BTC-USDT"] in [each["topics"] for each in played.said[1:]]


def test_a_connection_that_answers_nothing_is_closed_after_it_was_asked_twice() -> None:
    """Each time it has its time to answer."""
    played = line([TRADES])
    played.wait(15)
    assert [each["topics"] for each in played.said] == [["trades:BTC-USDT"]] * 2
    assert not any(isinstance(each, Close) for each in played.actions)
    played.wait(10)
    (close,) = (each for each in played.actions if isinstance(each, Close))
    assert str(close.error) == "trades:BTC-USDT was asked for twice and not answered"


def test_a_change_leaves_what_is_gone_asks_for_what_is_new_and_touches_nothing_else() -> None:
    """What stays goes on without a gap."""
    played = line([TRADES, BOOK])
    played.grant()
    played.trade("a")
    played.did(played.session.change([ETH_TRADES], [BOOK], played.now))
    assert [(each["op"], each["topics"]) for each in played.said[1:]] == [
        ("unsubscribe", ["books:BTC-USDT"]),
        ("subscribe", ["trades:ETH-USDT"]),
    ]
    assert set(played.session.streams) == {TRADES.stream, ETH_TRADES.stream}
    played.trade("b")
    assert [each.trade_id for each in played.records if isinstance(each, Trade)] == ["a", "b"]
    assert played.gaps == []


def test_the_gap_of_a_renewal_says_for_how_long_its_stream_was_silent() -> None:
    """From its last record to when it was left; what comes of it meanwhile is not heard."""
    played = line([TRADES])
    played.grant()
    played.trade("a")
    played.seconds += 60
    played.session.renew(TRADES.stream, played.now)
    played.wait(0.25)
    assert [each["op"] for each in played.said[1:]] == ["unsubscribe", "subscribe"]
    played.trade("lost")
    for command in played.said[1:]:
        played.tell(id=command["id"])
    played.trade("b")
    (gap,) = played.gaps
    assert (gap.reason, gap.detail) == ("stale", "it was silent for 60 s, and is asked for anew")
    assert [each.trade_id for each in played.records if isinstance(each, Trade)] == ["a", "b"]


def test_a_stream_that_never_spoke_says_so_in_its_gap() -> None:
    """There is no last record to count from."""
    played = line([TRADES])
    played.grant()
    state = played.session.streams[TRADES.stream]
    assert state.silence(played.now.monotonic) == "it never spoke, and is asked for anew"


def test_what_the_new_connection_hears_is_held_back_until_the_streams_have_joined() -> None:
    """Then it is told once, and the old one knows the stream no more."""
    old = line([TRADES])
    old.grant()
    old.trade("a")
    new = following(old, [TRADES])
    new.grant()
    new.trade("b")
    assert new.records == []
    assert TRADES.stream in old.session.streams
    old.seconds = new.seconds
    old.trade("b")
    new.wait(30)
    new.trade("c")
    told = [each.trade_id for each in (*old.records, *new.records) if isinstance(each, Trade)]
    assert told == ["a", "b", "c"]
    assert TRADES.stream not in old.session.streams
    assert old.gaps == new.gaps == []
    old.trade("c")
    assert not any(isinstance(each, Reject) for each in old.actions)


def test_where_the_old_connection_is_gone_the_new_one_goes_on_with_all() -> None:
    """At once, whether they had joined or not."""
    old = line([TRADES, BOOK])
    old.grant()
    new = following(old, [TRADES, BOOK])
    new.grant()
    new.trade("a")
    new.did(new.session.old_gone(new.now))
    assert [each.trade_id for each in new.records if isinstance(each, Trade)] == ["a"]
    assert old.session.streams == {}


def test_an_answer_about_a_book_that_is_gone_is_passed_over() -> None:
    """It was left while its snapshot was on the way."""
    played = line([BOOK])
    played.grant()
    played.wait(10)
    assert played.fetches
    played.did(played.session.change([], [BOOK], played.now))
    turn = played.answer(b"not even a book")
    assert (turn.records, turn.actions) == ([], [])
    assert BTC.native_id not in {native_id for _, native_id in played.session.streams}
