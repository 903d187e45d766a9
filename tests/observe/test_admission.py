"""Who gives way, and who is answered, where there is not room for all."""

import pytest

from marketprism.observe import admission
from marketprism.observe.admission import Admission


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms that are soon full."""
    for name, size in (("WAITING", 4), ("ANSWERED", 4), ("VITAL", 2)):
        monkeypatch.setattr(admission, name, size)


def test_who_has_waited_longest_gives_way() -> None:
    """No newcomer is turned away; who was answered waits anew."""
    room: Admission[str] = Admission(1024)
    assert [room.wait(guest, "a") for guest in "wxyz"] == [None] * 4
    assert room.ask("w")
    assert room.wait("w", "a") is None
    assert room.wait("v", "a") == "x"
    assert room.there == 4


def test_of_those_who_come_from_one_address_the_most_give_way() -> None:
    """A crowd of one address costs nobody else his place, however long he waits."""
    room: Admission[str] = Admission(1024)
    room.wait("alone", "b")
    gone = [room.wait(guest, "a") for guest in ("1", "2", "3", "4", "5")]
    assert gone == [None, None, None, "1", "2"]
    assert room.wait("another", "b") == "3"
    assert room.ask("alone")


def test_no_address_is_answered_more_than_its_share() -> None:
    """Others are, as long as there is room; a place that is left is another's."""
    room: Admission[str] = Admission(1024)
    asked = []
    for guest, address in (("1", "a"), ("2", "a"), ("3", "a"), ("4", "b"), ("5", "c"), ("6", "d")):
        room.wait(guest, address)
        asked.append(room.ask(guest))
    assert asked == [True, True, False, True, True, False]
    room.leave("1")
    room.wait("7", "a")
    assert room.ask("7")


def test_what_is_vital_has_places_that_nobody_else_can_take() -> None:
    """Where all others are taken, and whosever they are; the oldest of its own gives way."""
    room: Admission[str] = Admission(1024)
    for guest, address in (("1", "a"), ("2", "a"), ("3", "b"), ("4", "b")):
        room.wait(guest, address)
        assert room.ask(guest)
    given = []
    for guest in ("x", "y", "z"):
        room.wait(guest, "a")
        given.append(room.ask_vital(guest))
    assert given == [None, None, "x"]
    assert room.there == 6


def test_only_who_has_no_whole_request_can_be_spared() -> None:
    """And one who has given way is nobody any more."""
    room: Admission[str] = Admission(1024)
    for guest in "xyz":
        room.wait(guest, "a")
    assert room.ask("x")
    assert room.ask_vital("y") is None
    assert (room.evict(), room.evict()) == ("z", None)
    assert not room.ask("z")


def test_the_exchanges_have_their_descriptors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are few, fewer may wait and be answered; always one."""
    monkeypatch.setattr(admission, "WAITING", 100)
    room: Admission[int] = Admission(64)
    assert [room.wait(guest, "a") for guest in range(9)] == [None] * 8 + [0]
    assert [room.ask(guest) for guest in (1, 2, 3)] == [True, True, False]
    least: Admission[int] = Admission(0)
    assert [least.wait(guest, "a") for guest in range(2)] == [None, 0]
    assert least.ask(1)
