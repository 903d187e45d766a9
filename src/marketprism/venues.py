"""The tasks of a venue: find out what there is, then keep each connection's session connected."""

import structlog
import trio

from marketprism.errors import Lost, Refused
from marketprism.feeds.connection import Connection
from marketprism.feeds.freshness import Freshness
from marketprism.feeds.polling import run_poll
from marketprism.feeds.venue import Cursor, Fetch, Fetched, Shard, Stream, Venue, Want
from marketprism.feeds.world import World
from marketprism.instruments import Instrument, select
from marketprism.settings import SupervisionConfig, VenueConfig
from marketprism.status import ConnectionRow, StreamRow, VenueRow
from marketprism.supervise import Attempt, Conclusion, Ended, supervise

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

    async def attempt(_life: Attempt) -> None:
        wants = _wants(settings, await _instruments(venue, world), row)
        if world.positions is not None:
            await world.positions.read(wants)
        for shard in venue.plan(wants):
            feeds.start_soon(run_feed, shard, venue, world, policy)
        for poll in venue.polls(wants):
            feeds.start_soon(run_poll, poll, venue, world, policy)
        row.state, row.reason = "running", None
        log.info("venue.started", venue=venue.name, instruments=row.instruments)

    def ended(end: Ended) -> None:
        row.state = "refused" if end.conclusion is Conclusion.REFUSED else "failing"
        if row.reason != end.reason and end.conclusion is Conclusion.REFUSED:
            log.error("venue.refused", venue=venue.name, reason=end.reason)
        row.reason = end.reason

    await supervise(venue.name, attempt, policy, ended, world.chance)


def _see_to_the_end(cursors: dict[Stream, Cursor], row: ConnectionRow, world: World) -> None:
    """What a stream did not say while its connection was alive did not happen: sight was lost when
    the connection last gave a sign of life, not at the stream's last record.
    """
    if row.last_alive is None:
        return
    now = world.now()
    alive = now.wall - (now.monotonic - row.last_alive)
    for cursor in cursors.values():
        if cursor.received is not None and cursor.gap is None:
            cursor.received = max(cursor.received, alive)


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
    chosen, row.unmatched = select(instruments, settings.symbols)
    row.instruments = len(chosen)
    for pattern in row.unmatched:
        log.warning("symbol.unknown", venue=row.name, symbol=pattern)
    if not chosen:
        raise Refused(f"{row.name} has none of the configured symbols")
    return [
        Want(data_type, instrument) for instrument in chosen for data_type in settings.data_types
    ]


async def run_feed(shard: Shard, venue: Venue, world: World, policy: SupervisionConfig) -> None:
    """Keep one shard's session connected until cancelled; then publish the gaps left open."""
    freshness = Freshness(venue.offers, policy.freshness)
    cursors: dict[Stream, Cursor] = {want.stream: world.cursor(want) for want in shard.wants}
    row = ConnectionRow(shard.id, venue.name, venue.exchange, venue.market_type, url="")
    board = world.board
    board.connections[shard.id] = row
    for want in shard.wants:
        board.streams[venue.name, want.stream] = StreamRow(
            venue.name,
            want.instrument,
            want.data_type,
            shard.id,
            quiet_limit=venue.offers[want.data_type].quiet_limit,
            freshness=freshness,
        )

    async def attempt(life: Attempt) -> None:
        session = shard.open(cursors)
        row.state, row.url, row.streams = "dialling", session.url, session.streams
        row.attempts += 1
        row.last_alive = None
        for stream, state in session.streams.items():
            board.streams[venue.name, stream].attach(state)
        await Connection(session, row, venue.manners, world, life.produced, freshness).run()

    def ended(end: Ended) -> None:
        _see_to_the_end(cursors, row, world)
        for cursor in cursors.values():
            cursor.lose("disconnect")
        for stream in cursors:
            board.streams[venue.name, stream].detach()
        row.state = "refused" if end.conclusion is Conclusion.REFUSED else "waiting"
        row.reason = end.reason

    try:
        await supervise(shard.id, attempt, policy, ended, world.chance)
    finally:
        row.state = "stopped"
        wall = world.now().wall
        open_gaps = (
            cursors[want.stream].close(want.instrument, want.data_type, wall, shard.id)
            for want in shard.wants
        )
        world.confess([gap for gap in open_gaps if gap is not None], shard.id)
