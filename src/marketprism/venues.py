"""The tasks of a venue: find out what there is, then start its feeds and its polls."""

import structlog
import trio

from marketprism.errors import Lost, Refused
from marketprism.feed import Feed
from marketprism.feeds.hosts import host_of
from marketprism.feeds.polling import run_poll
from marketprism.feeds.venue import Fetch, Fetched, Venue, Want
from marketprism.feeds.world import World
from marketprism.instruments import Instrument, select
from marketprism.namesakes import one_each
from marketprism.nearest_names import nearest_symbols, unknown_words
from marketprism.settings import SupervisionConfig, VenueConfig
from marketprism.status import VenueRow, lasted
from marketprism.supervise import Attempt, Conclusion, Ended, supervise

SUGGESTED = 5
"""Unknown symbols, a venue, for which the nearest names are looked up."""

log = structlog.get_logger()


async def run_venue(
    venue: Venue,
    settings: VenueConfig,
    world: World,
    policy: SupervisionConfig,
    feeds: trio.Nursery,
) -> None:
    """Metadata → instruments → plan; then start the venue's feeds in `feeds`.

    An exchange that is down is asked again and again; it holds up nobody else.
    """
    row = VenueRow(venue.name, venue.exchange, venue.market_type)
    world.board.venues[venue.name] = row
    limits = settings.limits
    weight = int(limits.rest_weight * limits.rest_share)
    world.rest.allow(settings.api.base_url, weight, limits.rest_window)
    row.rest_host = host_of(settings.api.base_url)
    for root in (settings.api.base_url, settings.api.ws_url):
        world.hosts.learn(root, venue.interpret)

    async def attempt(_life: Attempt) -> None:
        wants = _wants(settings, await _instruments(venue, world), row)
        if world.positions is not None:
            await world.positions.read(wants)
        for shard in venue.plan(wants):
            feeds.start_soon(Feed(shard, venue, world, policy).run)
        for poll in venue.polls(wants):
            feeds.start_soon(run_poll, poll, venue, world, policy)
        down = {}
        if row.failing_since is not None:
            down["after"] = lasted(row.failing_since, world.now().monotonic)
        row.state, row.reason, row.failing_since = "running", None, None
        log.info("venue.started", venue=venue.name, instruments=row.instruments, **down)

    def ended(end: Ended) -> None:
        row.state = "refused" if end.conclusion is Conclusion.REFUSED else "failing"
        if row.reason != end.reason and end.conclusion is Conclusion.REFUSED:
            log.error("venue.refused", venue=venue.name, reason=end.reason)
        row.reason = end.reason
        if row.failing_since is None:
            row.failing_since = world.now().monotonic

    await supervise(venue.name, attempt, policy, ended, world.chance)


async def _instruments(venue: Venue, world: World) -> list[Instrument]:
    bodies = [await _body(request, world) for request in venue.metadata]
    try:
        return venue.instruments(bodies)
    except ValueError as error:
        raise Lost(f"{venue.name}: {error}") from error


async def _body(request: Fetch, world: World) -> bytes:
    """The answer; nothing, where one that is not required fails."""
    if request.required:
        return await world.rest.require(request)
    answer = await world.rest.fetch(request)
    return answer.body if isinstance(answer, Fetched) else b""


def _wants(settings: VenueConfig, instruments: list[Instrument], row: VenueRow) -> list[Want]:
    """What the configuration asks for of what there is. Raises Refused when that is nothing."""
    pool, collisions = one_each(instruments)
    chosen, row.unmatched = select(pool, settings.symbols)
    row.collisions = [str(collision) for collision in collisions if collision.kept in chosen]
    for words in row.collisions:
        log.warning("symbol.collision", venue=row.name, reason=words)
    row.instruments = len(chosen)
    # Not of all: of many it would hold everything up, and a list for another venue has no answers.
    symbols = [each.symbol for each in instruments if each.trading]
    row.nearest = {
        pattern: nearest_symbols(pattern, symbols) for pattern in row.unmatched[:SUGGESTED]
    }
    for pattern in row.unmatched:
        nearest = row.nearest.get(pattern)
        log.warning("symbol.unknown", venue=row.name, symbol=pattern, nearest=nearest)
    if not chosen:
        words = unknown_words(row.unmatched, row.nearest)
        raise Refused(f"{row.name} has none of the configured symbols: {words}")
    return [
        Want(data_type, instrument) for instrument in chosen for data_type in settings.data_types
    ]
