"""One poll: asked at the start, then just after each boundary of its period, for ever; sooner
where the answer held nothing new. It is never given up: an instrument that is not known today may
be listed tomorrow.
"""

from urllib.parse import urlsplit

import structlog
import trio

from marketprism.board.rows import lasted
from marketprism.clock import SECOND, Timestamp
from marketprism.errors import Lost, Refused
from marketprism.feeds.actions import Fetched, FetchFailed, Output, Reject
from marketprism.feeds.rest import failure
from marketprism.feeds.services import Services
from marketprism.feeds.venue import Poll, Venue
from marketprism.records import Gap
from marketprism.settings.supervision import SupervisionConfig
from marketprism.streams.cursor import Cursor
from marketprism.streams.state import Phase, StreamState
from marketprism.supervise import Attempt, Ended, supervise

JITTER, MOST_JITTER = 0.05, 5.0
"""Part of a period, and seconds, that a poll may come late, so that not all ask at once."""
AT_ONCE = 5.0
"""Polls whose offset is within so many seconds are asked at the start together."""
REFUSED_FIRST = 30.0
"""Seconds from a poll's first refusal to its next request, at most; then `refused_retry`."""
REFUSED_JITTER = 0.1
"""The part of that by which one comes early, so that those refused together do not ask together."""

CONFESS_SECONDS = 1.0

log = structlog.get_logger()


def until_boundary(poll: Poll, wall: int) -> float:
    """Seconds from `wall` to `offset` past the next multiple of the period."""
    since = (wall / SECOND - poll.offset) % poll.period
    return poll.period - since


def refused_wait(refusals: int, retry: float, jitter: float) -> float:
    """Seconds from the last of so many refusals in a row to the next request; `jitter` is uniform
    in [0, 1).
    """
    if refusals == 1:
        return min(REFUSED_FIRST, retry) * (1 - jitter / 2)
    return retry * (1 - REFUSED_JITTER * jitter)


class _Polling:
    """One poll, and what is known of its stream; what its last answers were decides together what
    is told of the next.
    """

    def __init__(
        self,
        poll: Poll,
        venue: Venue,
        services: Services,
        policy: SupervisionConfig,
        cursor: Cursor | None,
    ) -> None:
        subscription, offer = poll.subscription, venue.offers[poll.subscription.data_type]
        self._poll = poll
        self._venue = venue
        self._services = services
        self._policy = policy
        self._state = StreamState(
            subscription.instrument, subscription.data_type, cursor or services.cursor(subscription)
        )
        self._samples: dict[str, int] = {}
        self._vain = 0
        """Answers in a row that held nothing new."""
        self._refusals = 0
        """Refusals in a row."""
        self._failing_since: int | None = None
        """Monotonic nanoseconds."""
        self._parked_since: int | None = None
        """The same."""
        self._quiet = False
        """Its failure was said of its host already."""
        begun = services.now().monotonic
        row = services.board.stream(
            venue.name, subscription, poll.connection, offer.quiet_limit, begun
        )
        row.attach(self._state)

    async def run(self) -> None:
        """Until cancelled; then publish the gap that is left open."""
        name, services, state = self._poll.connection, self._services, self._state
        # At once; where there are many, when the spread over the period has come to this one.
        await trio.sleep(max(0.0, self._poll.offset - AT_ONCE))
        try:
            await supervise(name, self._attempt, self._policy, self._ended, services.jitter)
        finally:
            gap = state.cursor.close(state.instrument, state.data_type, services.now().wall, name)
            services.tell_gaps([] if gap is None else [gap], name)

    async def _attempt(self, life: Attempt) -> None:
        self._vain = 0
        while True:
            try:
                wait = await self._ask(life)
                self._refusals = 0
            except Refused as refusal:
                wait = self._refused(str(refusal))
            await trio.sleep(wait)

    async def _ask(self, life: Attempt) -> float:
        """Ask, read, publish. Seconds until it is asked again. Raises what stands in the way."""
        poll, services, state = self._poll, self._services, self._state
        answer = await services.rest.fetch(poll.request)
        now = services.now()
        output = poll.read(answer, {poll.subscription.stream: state.cursor}, now)
        rejects = [step for step in output.actions if isinstance(step, Reject)]
        if isinstance(answer, FetchFailed) or (rejects and not output.records):
            # What is not known of it from here on stands on the board until it is, or at the stop.
            words = answer.words if isinstance(answer, FetchFailed) else str(rejects[0].reason)
            state.cursor.lose("disconnect", words)
        self._note(output, now, good=isinstance(answer, Fetched) and not rejects)
        if output.records:
            life.produced()
            services.publish(output.records, now.monotonic, poll.connection)
        for reject in rejects:
            services.reject(self._venue.name, poll.connection, reject, self._samples)
        await self._tell_gaps()
        if isinstance(answer, FetchFailed):
            raise failure(poll.request, answer)
        if rejects and not output.records:
            # A period may be long, and no host asks for time where it answers nonsense.
            raise Lost(f"{poll.connection}: its answer cannot be read", retry_after=poll.again)
        self._came_back(now.monotonic)
        late = min(poll.period * JITTER, MOST_JITTER) * services.jitter()
        wait = until_boundary(poll, services.now().wall)
        news = any(not isinstance(each, Gap) for each in output.records)
        self._vain = 0 if news else self._vain + 1
        if self._vain:
            wait = min(wait, poll.again * 2.0 ** min(self._vain - 1, 60))
        return wait + late

    def _refused(self, why: str) -> float:
        """The host will not tell it: not now, for all we know. Seconds until it is asked again."""
        state = self._state
        if state.phase is not Phase.PARKED or state.detail != why:
            self._parked_since = self._parked_since or self._services.now().monotonic
            log.warning("stream.parked", **self._names, reason=why)
        state.phase, state.detail = Phase.PARKED, why
        self._refusals += 1
        return refused_wait(self._refusals, self._policy.refused_retry, self._services.jitter())

    def _note(self, output: Output, now: Timestamp, *, good: bool) -> None:
        """Count what came; a good answer without news shows that the stream is had again, too."""
        state = self._state
        gaps = sum(isinstance(record, Gap) for record in output.records)
        if news := len(output.records) - gaps:
            state.records += news
            state.last_record = now.monotonic
        elif not good:
            return
        if state.phase is Phase.PARKED:
            down = lasted(self._parked_since, now.monotonic)
            log.info("stream.unparked", **self._names, after=down)
            self._parked_since = None
        heard = news or state.cursor.received is not None
        state.phase, state.detail = Phase.LIVE if heard else Phase.ACKNOWLEDGED, None

    async def _tell_gaps(self) -> None:
        """What the channel had no room for is a gap as soon as it has: no connection does that."""
        services, name = self._services, self._poll.connection
        while services.outlet.loses(name):
            now = services.now()
            services.outlet.tell_gaps(name, now.wall, now.monotonic, lambda *_: [])
            await trio.sleep(CONFESS_SECONDS)

    def _came_back(self, now: int) -> None:
        if self._failing_since is not None:
            say = log.debug if self._quiet else log.info
            say("poll.recovered", **self._names, after=lasted(self._failing_since, now))
        self._failing_since = None

    def _ended(self, end: Ended) -> None:
        if self._failing_since is None:
            self._failing_since = self._services.now().monotonic
            # Where its host is in trouble, that was said once, and not for each of its polls.
            host = urlsplit(self._poll.request.url).netloc.rpartition("@")[2]
            self._quiet = self._services.hosts.row(host).reason is not None
            say = log.debug if self._quiet else log.warning
            say("poll.failed", **self._names, reason=end.reason)
        self._state.detail = end.reason

    @property
    def _names(self) -> dict[str, str]:
        return {
            "connection": self._poll.connection,
            "symbol": self._poll.subscription.instrument.symbol,
        }


async def run_poll(
    poll: Poll,
    venue: Venue,
    services: Services,
    policy: SupervisionConfig,
    cursor: Cursor | None = None,
) -> None:
    """Ask, read, publish, wait — until cancelled. Without a `cursor` it goes on from where the
    stream stood when the process began.

    What fails is asked again with backoff, by the same rules as a connection; what is refused after
    at most half a minute, then slowly.
    """
    await _Polling(poll, venue, services, policy, cursor).run()
