"""One offer of one venue, played by hand: the exchange's end of its line."""

import json
from typing import Any

import attrs
from cards import Card

from marketprism.clock import Timestamp
from marketprism.feeds import VENUES
from marketprism.feeds.actions import Fetch, Fetched, Output, Send
from marketprism.feeds.venue import Poll, Session
from marketprism.instruments import Instrument
from marketprism.records import Record
from marketprism.settings.exchanges import Api, VenueConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.subscription import Subscription

START = 1_700_000_200_500_000_000
"""Later than all that the cards say."""


@attrs.define
class Desk:
    """One offer, played by hand."""

    card: Card
    session: Session | None = None
    poll: Poll | None = None
    cursor: Cursor = attrs.field(factory=Cursor)
    asked: list[str] = attrs.field(factory=list)
    ticks: int = 0
    opened: list[Record] = attrs.field(factory=list)
    """What the session published before it heard any event."""

    def __attrs_post_init__(self) -> None:
        card = self.card
        venue = VENUES[card.venue](
            VenueConfig(
                card.venue,
                Api("http://rest.test", "ws://stream.test"),
                ("*",),
                (card.data_type,),
            )
        )
        if card.metadata:
            venue.instruments(card.metadata)
        symbol = "BTC" if card.venue.startswith("deribit") else "BTC-USDT"
        instrument = Instrument(
            venue.exchange,
            venue.market_type,
            symbol,
            card.native_id,
            base="BTC",
            contract_size="0.01" if card.native_id.endswith("-SWAP") else None,
        )
        subscription = Subscription(card.data_type, instrument)
        if venue.offers[card.data_type].by == "poll":
            (self.poll,) = venue.polls([subscription])
            self.asked.append(self.poll.request.url)
            return
        (shard,) = venue.plan([subscription])
        self.session = shard.open({subscription.stream: self.cursor})
        self._obey(self.session.opening(self.now()))

    def now(self) -> Timestamp:
        """A little later each time."""
        self.ticks += 1
        return Timestamp(START + self.ticks * 1_000_000, self.ticks * 1_000_000)

    def _obey(self, turn: Output) -> None:
        """Do what a session asks for: confirm its commands, answer its fetches."""
        assert self.session is not None
        self.opened += turn.records
        for step in turn.actions:
            if isinstance(step, Send):
                self._confirm(step)
            elif isinstance(step, Fetch):
                if step.before is not None:
                    self._confirm(step.before)
                body = json.dumps(self.card.snapshot).encode()
                answer = Fetched(body, self.now().monotonic)
                self._obey(self.session.reply(step.tag, answer, self.now()))

    def _confirm(self, send: Send) -> None:
        assert self.session is not None
        self.asked.append(send.payload)
        for frame in confirmations(json.loads(send.payload)):
            self._obey(self.session.receive([json.dumps(frame).encode()], self.now()))

    def hear(self, *events: Any) -> Output:
        """Events, or answers of the poll, one after another."""
        turn = Output()
        for event in events:
            body = event if isinstance(event, bytes) else json.dumps(event).encode()
            if self.poll is not None:
                answer = Fetched(body, self.now().monotonic)
                said = self.poll.read(
                    answer, {self.poll.subscription.stream: self.cursor}, self.now()
                )
            else:
                assert self.session is not None
                said = self.session.receive([body], self.now())
            turn.records += said.records
            turn.actions += said.actions
        return turn


def confirmations(command: dict[str, Any]) -> list[dict[str, Any]]:
    """What each exchange answers to a command that it accepts."""
    if "op" in command:
        return [{"event": command["op"], "arg": arg, "connId": "x"} for arg in command["args"]]
    if command["method"].startswith("public/"):
        result = command["params"].get("channels", "ok")
        return [{"jsonrpc": "2.0", "id": command["id"], "result": result}]
    return [{"result": None, "id": command["id"]}]
