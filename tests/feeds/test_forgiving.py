"""What cannot be read as a whole is read field by field."""

from typing import Annotated, Literal

import msgspec
import pytest

from marketprism.bounds import LARGEST, LATEST, Id, Milliseconds, believed
from marketprism.feeds.forgiving import by_field, forgiving, read_pair


class Order(msgspec.Struct):
    """A part of a message."""

    name: str
    side: Literal["BUY", "SELL"] | None = None


class Said(msgspec.Struct):
    """A message."""

    at: Milliseconds
    number: Id
    order: Order | None = None
    due: Milliseconds | None = None
    price: str | None = None
    bids: list[tuple[str, str]] = []
    asks: list[Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]] = []
    maker: bool = False


read = forgiving(Said)
NEEDED = b'"at":1,"number":2'


def test_what_is_as_it_should_be_is_read_at_once() -> None:
    """The strict way."""
    body = b'{%b,"order":{"name":"x","side":"BUY"},"bids":[["1","2"]]}' % NEEDED
    assert read(body) == msgspec.json.decode(body, type=Said) == by_field(Said)(body)


@pytest.mark.parametrize(
    "field",
    [
        b'"due":null',
        b'"due":253402300799999',
        b'"due":-1',
        b'"due":"soon"',
        b'"due":1.5',
        b'"due":"%d"' % (LATEST + 1),
        b'"price":null',
        b'"price":{"a":[1e400]}',
        b'"price":true',
        b'"order":{"name":null}',
        b'"order":7',
        b'"order":{}',
        b'"bids":[["1"]]',
        b'"bids":[["1",null]]',
        b'"bids":{"a":1}',
        b'"asks":null',
        b'"maker":"yes"',
        b'"maker":null',
        b'"order":{"name":"x"},"order":[]',
    ],
)
def test_what_can_be_done_without_is_as_if_it_were_not_said(field: bytes) -> None:
    """And all else stands."""
    assert read(b"{%b,%b}" % (field, NEEDED)) == Said(1, 2)


@pytest.mark.parametrize(
    "body",
    [
        b'{"number":2}',
        b'{"at":null,"number":2}',
        b'{"at":1,"number":9223372036854775808}',
        b'{"at":1,"number":%b}' % (b"1" + b"0" * 400),
        b'{"at":4102444800001,"number":2}',
        b'{"at":1,"number":"x"}',
        b'{"at":1,"number":2.5}',
        b'{"at":1,"number":"007"}',
        b"[]",
        b"7",
    ],
)
def test_without_what_it_cannot_do_without_it_is_refused(body: bytes) -> None:
    """As the strict way does."""
    with pytest.raises(msgspec.ValidationError):
        read(body)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b'"at":"17"', {"at": 17}),
        (b'"at":1.7e1', {"at": 17}),
        (b'"at":"1.7E1"', {"at": 17}),
        (b'"at":17.0', {"at": 17}),
        (b'"price":12.50', {"price": "12.50"}),
        (b'"price":1e-8', {"price": "1e-8"}),
        (b'"bids":[[1.50,"2",[],null]]', {"bids": [("1.50", "2")]}),
        (b'"asks":[["1.50",2,null]]', {"asks": [("1.50", "2")]}),
        (b'"order":{"name":5,"side":"HOLD"}', {"order": Order("5")}),
    ],
)
def test_another_spelling_says_the_same(field: bytes, expected: dict[str, object]) -> None:
    """Whole numbers as text, text that is a number; and levels that grew."""
    said = read(b"{%b,%b}" % (NEEDED, field))
    assert said == Said(**({"at": 1, "number": 2} | expected))  # type: ignore[arg-type] # by name


def test_a_key_that_is_doubled_is_its_last() -> None:
    """In both ways."""
    for body in (b'{%b,"due":1,"due":2}', b'{%b,"due":{},"due":2}'):
        assert read(body % NEEDED).due == 2


def test_a_row_may_grow_but_not_shrink() -> None:
    """Its first two cells are what they were."""
    assert read_pair(b'["1","2.5"]') == read_pair(b'["1",2.5,{"a":1},null]') == ("1", "2.5")
    for body in (b'["1"]', b"[]", b'["1",null]', b'{"a":"b"}', b'[["1"],"2"]'):
        with pytest.raises(msgspec.ValidationError):
            read_pair(body)


def test_a_time_that_something_was_added_to_is_bounded_too() -> None:
    """To the millisecond."""
    assert believed(None) is None
    assert believed(LATEST * 1_000_000) == LATEST * 1_000_000
    assert believed(LATEST * 1_000_000 + 1) is None
    assert LARGEST == 9_223_372_036_854_775_807
