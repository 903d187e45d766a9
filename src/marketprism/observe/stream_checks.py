"""What /health says of streams and of what arrives over them. Pure."""

from collections.abc import Mapping, Sequence

from marketprism.board.board import Board
from marketprism.board.stream_row import StreamRow
from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.markets import Standing
from marketprism.observe.arrivals import NOTHING_FOR, Voice, arrival, down
from marketprism.observe.checks import Check, Level, few, missing
from marketprism.observe.report import age, wall_text
from marketprism.streams.state import Phase

Voices = Mapping[str, Sequence[Voice]]
"""Of each venue, what must be heard of."""


def streams(board: Board, found: Voices, now: Timestamp, young: bool) -> Check:
    """Whether each speaks as it must."""
    late, refused = [], []
    voices = [voice for venue in found.values() for voice in venue]
    for voice in voices:
        row, state, alarm, limit = voice.row, voice.state, voice.row.alarm, voice.limit
        if state == Phase.LIVE or (state == Phase.ACKNOWLEDGED and limit is None):
            # A stream that may be silent, and is confirmed, has nothing to say.
            silent = (now.monotonic - voice.heard) / SECOND
            if alarm is not None:
                late.append(f"{_name(row)} has been silent for {silent:.0f} s ({alarm})")
            elif limit is not None and silent > limit:
                late.append(f"{_name(row)} has been silent for {silent:.0f} s")
        elif state == Phase.PARKED:
            refused.append(f"{_name(row)} is refused: {row.detail or 'no reason known'}")
        else:
            late.append(f"{_name(row)} is {_said(state)}{_because(row)}")
    idle = _idle(board)
    if not voices:
        return Check(missing(young and not idle, Level.HEALTHY), idle or "none was begun")
    level = missing(young, Level.DEGRADED) if late else Level.HEALTHY
    # Once there was data, to be without it is news, however young we are.
    if any(voice.state == "disconnected" and voice.last is not None for voice in voices):
        level = Level.DEGRADED
    if refused:
        level = Level.DEGRADED
    trouble = refused + late
    total = len(voices)
    live = f"{total - len(trouble)} of {total} live" if trouble else f"all {total} live"
    return Check(level, "; ".join(filter(None, [live, few(trouble), idle])))


def _idle(board: Board) -> str:
    """The markets that have nothing to tell, as their exchanges say: no trouble of ours."""
    markets = {
        (row.venue, row.instrument.symbol): f"{row.venue} {row.instrument.symbol} {_stands(row)}"
        for row in board.stream_rows()
        if row.standing is not None
    }
    return few(markets.values())


def _stands(row: StreamRow) -> str:
    stands = "is paused" if row.standing == Standing.PAUSED else "has ended"
    return f"{stands} ({row.market_status})" if row.market_status else stands


def data(board: Board, found: Voices, now: Timestamp, uptime: float) -> Check:
    """Whether any is arriving, from anywhere."""
    everything = [voice for venue in found.values() for voice in venue]
    arriving = arrival(everything, board, now)
    last = age(arriving.last, now)
    words = "nothing yet" if last is None else f"the last came {last:.1f} s ago"
    connections, venues = board.connections.values(), board.venues.values()
    if last is None and uptime <= NOTHING_FOR:
        hopeless = connections and all(row.state in ("waiting", "refused") for row in connections)
        return Check(Level.UNHEALTHY if hopeless else Level.STARTING, words)
    if not everything and venues and all(row.state == "running" for row in venues):
        return Check(Level.HEALTHY, "none is to come: no market of those collected trades now")
    if arriving.silent or not everything:
        return Check(Level.UNHEALTHY, f"nothing is arriving: {words}")
    if last is None or last > NOTHING_FOR:
        words += "; what is collected may be silent for long"
    return Check(Level.HEALTHY, words)


def venue(name: str, board: Board, found: Voices, now: Timestamp) -> str | None:
    """That a venue is down or says nothing, and since when."""
    if (lost := down(name, board)) is not None:
        since = wall_text(lost.down_since or board.started, now)
        return f"{name} is down since {since}: {lost.reason}"
    arriving = arrival(found.get(name, ()), board, now)
    if not arriving.silent:
        return None
    seconds = age(arriving.since, now) or 0.0
    return f"{name} has been silent for {seconds:.0f} s, since {wall_text(arriving.since, now)}"


def _name(row: StreamRow) -> str:
    return f"{row.venue} {row.data_type} {row.instrument.symbol}"


def _because(row: StreamRow) -> str:
    return f": {row.detail}" if row.detail else ""


def _said(state: str) -> str:
    """A stream's state, as one would say it."""
    said = {Phase.WANTED: "not subscribed yet", Phase.ACKNOWLEDGED: "without data yet"}
    return said.get(Phase(state), state) if state in set(Phase) else state
