"""One poll: asked at the start, then just after each boundary of its period, for ever; sooner
where the answer held nothing new.
"""

from urllib.parse import urlsplit

import structlog
import trio

from marketprism.errors import Lost
from marketprism.feeds.rest import failure
from marketprism.feeds.venue import (
    FetchFailed,
    Moment,
    Park,
    Phase,
    Poll,
    Reject,
    StreamState,
    Turn,
    Venue,
)
from marketprism.feeds.world import World
from marketprism.records import Gap
from marketprism.settings import SupervisionConfig
from marketprism.status import StreamRow, lasted
from marketprism.supervise import Attempt, Ended, supervise

SECOND = 1_000_000_000
JITTER, MOST_JITTER = 0.05, 5.0
"""Part of a period, and seconds, that a poll may come late, so that not all ask at once."""
AT_ONCE = 5.0
"""Polls whose offset is within so many seconds are asked at the start together."""

CONFESS_SECONDS = 1.0

log = structlog.get_logger()


def until_boundary(poll: Poll, wall: int) -> float:
    """Seconds from `wall` to `offset` past the next multiple of the period."""
    since = (wall / SECOND - poll.offset) % poll.period
    return poll.period - since


async def run_poll(poll: Poll, venue: Venue, world: World, policy: SupervisionConfig) -> None:
    """Ask, read, publish, wait — until cancelled, or until the stream is parked.

    What fails is asked again with backoff, by the same rules as a connection.
    """
    want, name = poll.want, poll.connection
    state = StreamState(want.instrument, want.data_type, world.cursor(want))
    cursors = {want.stream: state.cursor}
    row = StreamRow(venue.name, want.instrument, want.data_type, name)
    row.quiet_limit = venue.offers[want.data_type].quiet_limit
    row.attach(state)
    world.board.streams[venue.name, want.stream] = row
    samples: dict[str, int] = {}
    host = urlsplit(poll.request.url).netloc.rpartition("@")[2]
    failing_since: int | None = None
    quiet = False

    # At once; where there are many, when the spread over the period has come to this one.
    await trio.sleep(max(0.0, poll.offset - AT_ONCE))

    async def attempt(life: Attempt) -> None:
        vain = 0
        while state.phase is not Phase.PARKED:
            answer = await world.rest.fetch(poll.request)
            now = world.now()
            turn = poll.read(answer, cursors, now)
            _note(turn, state, now)
            if turn.records:
                life.produced()
                world.publish(turn.records, now.monotonic, name)
            for step in turn.steps:
                if isinstance(step, Reject):
                    world.reject(venue.name, name, step, samples)
                elif isinstance(step, Park):
                    state.phase, state.detail = Phase.PARKED, step.reason
                    log.warning("stream.parked", connection=name, reason=step.reason)
            await _confess(name, world)
            if isinstance(answer, FetchFailed) and state.phase is not Phase.PARKED:
                raise failure(poll.request, answer)
            if turn.steps and not turn.records and state.phase is not Phase.PARKED:
                # A period may be long, and no host asks for time where it answers nonsense.
                raise Lost(f"{name}: its answer cannot be read", retry_after=poll.again)
            came_back(now.monotonic)
            late = min(poll.period * JITTER, MOST_JITTER) * world.chance()
            wait = until_boundary(poll, world.now().wall)
            vain = 0 if any(not isinstance(each, Gap) for each in turn.records) else vain + 1
            if vain:
                wait = min(wait, poll.again * 2.0 ** min(vain - 1, 60))
            await trio.sleep(wait + late)

    def came_back(now: int) -> None:
        nonlocal failing_since
        if failing_since is not None:
            say = log.debug if quiet else log.info
            say("poll.recovered", connection=name, after=lasted(failing_since, now))
        failing_since = None

    def ended(end: Ended) -> None:
        nonlocal failing_since, quiet
        if failing_since is None:
            failing_since = world.now().monotonic
            # Where its host is in trouble, that was said once, and not for each of its polls.
            quiet = world.hosts.row(host).reason is not None
            say = log.debug if quiet else log.warning
            say("poll.failed", connection=name, reason=end.reason)
        state.detail = end.reason

    try:
        await supervise(name, attempt, policy, ended, world.chance)
    finally:
        gap = state.cursor.close(state.instrument, state.data_type, world.now().wall, name)
        world.confess([] if gap is None else [gap], name)


async def _confess(name: str, world: World) -> None:
    """What the channel had no room for is a gap as soon as it has: no connection sees to that."""
    while world.outlet.loses(name):
        now = world.now()
        world.outlet.confess(name, now.wall, now.monotonic, lambda *_: [])
        await trio.sleep(CONFESS_SECONDS)


def _note(turn: Turn, state: StreamState, now: Moment) -> None:
    """Count what came; an answer without news is a good answer, too."""
    gaps = sum(isinstance(record, Gap) for record in turn.records)
    state.gaps += gaps
    if len(turn.records) > gaps:
        state.records += len(turn.records) - gaps
        state.last_record = now.monotonic
        state.phase, state.detail = Phase.LIVE, None
