"""The tasks of a venue: find out what there is, collect it, and find out again."""

import fnmatch
from collections.abc import Iterable

import structlog
import trio

from marketprism.board.rows import VenueRow, lasted
from marketprism.errors import Lost, MarketPrismError, Refused, Transient
from marketprism.feeds.actions import Fetched
from marketprism.feeds.collection import Collection
from marketprism.feeds.hosts import host_of
from marketprism.feeds.markets import Market, Markets, Standing
from marketprism.feeds.metadata import Rereads
from marketprism.feeds.namesakes import one_each
from marketprism.feeds.rest import failure
from marketprism.feeds.services import Services
from marketprism.feeds.venue import Venue
from marketprism.instruments import select
from marketprism.settings.exchanges import VenueConfig
from marketprism.settings.nearest_names import nearest_symbols, unknown_words
from marketprism.settings.supervision import SupervisionConfig
from marketprism.supervise import Attempt, Conclusion, Ended, supervise

SUGGESTED = 5
"""Unknown symbols, a venue, for which the nearest names are looked up."""
LOOK_SECONDS = 1.0
"""How often it is looked at whether the metadata is to be read again."""

log = structlog.get_logger()


async def run_venue(
    venue: Venue,
    settings: VenueConfig,
    services: Services,
    policy: SupervisionConfig,
    feeds: trio.Nursery,
) -> None:
    """Metadata → markets → plan → feeds, which run in `feeds`; and again when there is reason to.

    An exchange that is down is asked again and again; it holds up nobody else.
    """
    row = VenueRow(venue.name, venue.exchange, venue.market_type)
    services.board.venues[venue.name] = row
    limits = settings.limits
    weight = int(limits.rest_weight * limits.rest_share)
    services.rest.allow(settings.api.base_url, weight, limits.rest_window)
    row.rest_host = host_of(settings.api.base_url)
    for root in (settings.api.base_url, settings.api.ws_url):
        services.hosts.learn(root, venue.interpret)
    collection = Collection(venue, settings.data_types, services, policy, feeds)
    await VenueTask(venue, settings, services, policy, row, collection).run()


class VenueTask:
    """What is known of one venue's markets, for as long as the process collects; half of it is what
    the task was given.
    """

    def __init__(
        self,
        venue: Venue,
        settings: VenueConfig,
        services: Services,
        policy: SupervisionConfig,
        row: VenueRow,
        collection: Collection,
    ) -> None:
        self._venue = venue
        self._settings = settings
        self._services = services
        self._policy = policy
        self._row = row
        self._collection = collection
        self._markets = Markets()
        self._rereads = Rereads(policy.refused_retry)
        self._known = False
        """What there is has been read once."""
        self._warned: set[str] = set()
        """Symbols that are not there, or of two: each is said once in the log."""
        self._unread_for: set[str] = set()
        """Why something could not be read, as far as that was said."""

    async def run(self) -> None:
        """Until it is cancelled."""
        name, jitter = self._venue.name, self._services.jitter
        await supervise(name, self._attempt, self._policy, self._ended, jitter)

    async def _attempt(self, _life: Attempt) -> None:
        while True:
            try:
                await self._read()
            except (Transient, Refused) as error:
                if not self._known:
                    raise
                # What is known holds, and is collected.
                self._unread(error)
                passing, jitter = isinstance(error, Transient), self._services.jitter()
                self._rereads.failed(trio.current_time(), jitter, passing=passing)
            while not self._is_due():
                await trio.sleep(LOOK_SECONDS)
                if self._collection.stale:
                    await self._collection.arrange(self._markets)

    def _is_due(self) -> bool:
        doubts = self._collection.doubts() if self._venue.metadata else ()
        return self._rereads.look(doubts, trio.current_time())

    def _ended(self, end: Ended) -> None:
        row = self._row
        row.state = "refused" if end.conclusion is Conclusion.REFUSED else "failing"
        if row.reason != end.reason and end.conclusion is Conclusion.REFUSED:
            log.error("venue.refused", venue=row.name, reason=end.reason)
        row.reason = end.reason
        if row.failing_since is None:
            row.failing_since = self._services.now().monotonic

    async def _read(self) -> None:
        """Ask what there is, and collect that. Raises Lost, RateLimited or Refused."""
        venue, row, asked = self._venue, self._row, self._services.now().wall
        bodies, unanswered, soon = await self._bodies()
        try:
            listed = venue.instruments(bodies)
        except ValueError as error:
            raise Lost(f"{venue.name}: {error}") from error
        pool, collisions = one_each(listed, self._markets.trading)
        chosen, unmatched = select(pool, self._settings.symbols)
        row.collisions = [str(each) for each in collisions if each.kept in chosen]
        speaking = self._collection.speaking
        for market in self._markets.learn(listed, chosen, asked, speaking):
            self._tell(market)
        row.instruments = len(self._markets)
        row.unmatched = [each for each in unmatched if not self._had(each)]
        symbols = [each.symbol for each in listed if each.trading]
        # Not of all: of many it would hold everything up.
        row.nearest = {
            pattern: nearest_symbols(pattern, symbols) for pattern in row.unmatched[:SUGGESTED]
        }
        row.unknown = list(venue.unknown)
        if not unanswered:
            self._unread_for.clear()
        self._warn()
        await self._collection.arrange(self._markets)
        self._known = True
        if not self._markets and row.unmatched:
            words = unknown_words(row.unmatched, row.nearest)
            self._refuse(f"{row.name} has none of the configured symbols: {words}")
        else:
            self._begin()
        now, jitter = trio.current_time(), self._services.jitter()
        # What was answered and could not be read may be readable the next time.
        soon = soon or bool(row.unknown and not unanswered)
        self._rereads.done([*self._missing(), *unanswered], now, jitter, soon=soon)

    async def _bodies(self) -> tuple[list[bytes], list[str], bool]:
        """The answers; the requests without one, which only what is not required may be; and
        whether one of these may have an answer soon.
        """
        bodies, unanswered, soon = [], [], False
        for request in self._venue.metadata:
            answer = await self._services.rest.fetch(request)
            if isinstance(answer, Fetched):
                bodies.append(answer.body)
                continue
            error = failure(request, answer)
            if request.required:
                raise error
            self._unread(error)
            bodies.append(b"")
            unanswered.append(request.url)
            soon |= isinstance(error, Transient)
        return bodies, unanswered, soon

    def _missing(self) -> Iterable[str]:
        """What is asked for again until it is there."""
        yield from self._row.unmatched
        yield from self._row.unknown
        if not self._markets:
            yield "any market"
        for market in self._markets:
            if market.missing or market.standing is not Standing.TRADING:
                yield f"{market.instrument.native_id} {market.standing} {market.missing}"

    def _had(self, pattern: str) -> bool:
        """Whether a pattern that names nothing now did so before: then its market has ended."""
        return any(fnmatch.fnmatchcase(each.instrument.symbol, pattern) for each in self._markets)

    # What is said of it

    def _tell(self, market: Market) -> None:
        told = {
            "venue": self._venue.name,
            "symbol": market.instrument.symbol,
            "status": market.status,
        }
        if market.standing is not Standing.TRADING:
            log.warning(f"market.{market.standing}", **told)
        elif market.idle_until:
            log.info("market.resumed", **told)
        elif self._known:
            log.info("market.listed", **told)

    def _unread(self, error: MarketPrismError) -> None:
        """Once for each reason, until all was read."""
        if str(error) not in self._unread_for:
            self._unread_for.add(str(error))
            log.warning("metadata.not_read", venue=self._venue.name, reason=str(error))

    def _warn(self) -> None:
        name, row = self._venue.name, self._row
        for pattern in [each for each in row.unmatched if each not in self._warned]:
            nearest = row.nearest.get(pattern)
            log.warning("symbol.unknown", venue=name, symbol=pattern, nearest=nearest)
        for words in [each for each in row.collisions if each not in self._warned]:
            log.warning("symbol.collision", venue=name, reason=words)
        self._warned.update(row.unmatched, row.collisions)

    def _refuse(self, reason: str) -> None:
        row = self._row
        if row.reason != reason:
            log.error("venue.refused", venue=row.name, reason=reason)
        if row.failing_since is None:
            row.failing_since = self._services.now().monotonic
        row.state, row.reason = "refused", reason

    def _begin(self) -> None:
        row = self._row
        if row.state != "running":
            down = {}
            if row.failing_since is not None:
                down["after"] = lasted(row.failing_since, self._services.now().monotonic)
            log.info("venue.started", venue=row.name, instruments=row.instruments, **down)
        row.state, row.reason, row.failing_since = "running", None, None
