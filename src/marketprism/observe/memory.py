"""The memory guard: says in time what holds the memory, and sheds before the kernel kills us.

A *soft* bound is only said. At a *hard* one burdens are shed one by one, in the configured order,
with time between, as memory takes time to fall; below the soft one they are taken up again in
reverse. `Policy` decides, and knows no clock; `MemoryGuard` does.

What counts is the memory that is *needed*. After a peak Python keeps most of it resident, since a
few long-lived objects lie all over it (measured: 63 of 95 MiB of its arenas wholly free, none
returned). That is used again before more is asked for, so it calls for nothing: else what was shed
would stay so for ever. Near the limit all that is resident counts, as the kernel counts it, unless
there is next to nothing left to shed.

| burden | shed | taken up |
|---|---|---|
| `books` | their updates are withheld, as in mode `snapshot` | gap and snapshot, then updates |
| `buffers` | updates that wait for a snapshot are dropped, again and again | the book asks anew |
| `spool` | the outbox holds less in memory | as much as configured |
"""

import ctypes
from collections.abc import Callable, Collection

import attrs
import structlog
import trio

from marketprism.board.board import Board
from marketprism.board.rows import MemoryRow
from marketprism.clock import SECOND, Timestamp
from marketprism.feeds.venue import Session
from marketprism.observe.cgroup import Limit
from marketprism.observe.memory_report import LARGE_RECORD_BYTES, held, memory_report, split
from marketprism.observe.rates import resident_memory
from marketprism.outbox.outbox import Outbox
from marketprism.pipeline.outlet import Outlet
from marketprism.settings.settings import Burden, MemoryConfig
from marketprism.settings.supervision import SupervisionConfig
from marketprism.supervise import Attempt, Ended, supervise

log = structlog.get_logger()


@attrs.frozen
class Bounds:
    """How much memory is much, in bytes; None where nothing says so."""

    limit: int | None
    soft: int | None
    hard: int | None
    source: str
    """`cgroup v2`, `cgroup v1`, `configured`, or `none`."""

    @classmethod
    def of(cls, config: MemoryConfig, limit: Limit) -> "Bounds":
        """A share is one of the limit; of the hard bound, where that is a size and there is no
        limit.
        """
        hard = _bytes(config.hard, limit.size)
        soft = _bytes(config.soft, limit.size if limit.size is not None else hard)
        if soft is not None and hard is not None:
            soft = min(soft, hard)
        configured = config.hard > 1 or config.soft > 1
        return cls(limit.size, soft, hard, "configured" if configured else limit.source)


def _bytes(bound: float, whole: int | None) -> int | None:
    if bound > 1:
        return int(bound)
    return None if whole is None else int(bound * whole)


@attrs.frozen
class Measure:
    """What to do now."""

    burden: Burden
    shed: bool
    """Shed it, or take it up again."""


@attrs.define(eq=False)
class Policy:
    """When to shed, and when to take up again. Times are monotonic nanoseconds."""

    bounds: Bounds
    config: MemoryConfig
    shed: list[Burden] = attrs.field(factory=list)
    """What is shed now, in the order in which it was."""
    _shed_at: int | None = None
    _calm_since: int | None = None

    def judge(self, used: int, now: int, slack: int = 0) -> Measure | None:
        """The step that this much resident memory calls for, of which `slack` is free to be used
        again; it counts as done.
        """
        soft, hard = self.bounds.soft, self.bounds.hard
        if hard is None or soft is None:
            return None
        needed = used - slack
        urgent = needed >= soft and self._urgent(used, hard)
        if needed >= hard or urgent:
            self._calm_since = None
            return self._more(now, urgent)
        if needed >= soft or not self.shed:
            self._calm_since = None
            return None
        if self._calm_since is None:
            self._calm_since = now
        if now - self._calm_since < self.config.relief_interval * SECOND:
            return None
        self._calm_since = now
        return Measure(self.shed.pop(), shed=False)

    def _more(self, now: int, urgent: bool) -> Measure | None:
        left = [burden for burden in self.config.shed_order if burden not in self.shed]
        waited = self._shed_at is None or now - self._shed_at >= (
            self.config.step_interval * SECOND
        )
        if not left or not (waited or urgent):
            return None
        self._shed_at = now
        self.shed.append(left[0])
        return Measure(left[0], shed=True)

    def _urgent(self, used: int, hard: int) -> bool:
        """Half of what lies between the hard bound and the limit is gone: to wait may kill us."""
        limit = self.bounds.limit
        return limit is not None and used >= (hard + limit) / 2


@attrs.define(eq=False)
class Slack:
    """How much of what nobody accounts for is free to be used again, about. Pure.

    It is what holders gave up since their peak, as far as the rest has grown by it. While holders
    are at their peak the rest is what the process really needs, so its least is remembered.
    """

    _least: int | None = None
    """Bytes that nobody accounted for, when that was least."""
    _peak: int = 0
    """Bytes that holders accounted for, when that was most."""

    def seen(self, rest: int, accounted: int, *, calm: bool) -> int:
        """The slack, now that holders account for so much, and nobody for the rest. In calm times
        it is nobody's concern, and all is measured from there.
        """
        if calm or self._least is None:
            self._least, self._peak = rest, accounted
        self._least, self._peak = min(self._least, rest), max(self._peak, accounted)
        return min(self._peak - accounted, rest - self._least)


def give_back() -> None:
    """Let the C library return what is free to the system: by itself it keeps most of it.

    After 60,000 messages of 1.7 kB were acknowledged, 101 of 115 MiB stayed resident until this,
    which took 5 ms. Where the C library is another one it does nothing.
    """
    if _trim is not None:
        _trim(0)


_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


@attrs.define(eq=False)
class MemoryGuard:
    """The task: it looks, says on the board, and does what the policy calls for."""

    policy: Policy
    board: Board
    outlet: Outlet
    outbox: Outbox
    sessions: Collection[Session]
    """Those that are connected."""
    now: Callable[[], Timestamp]
    used: Callable[[], int] = resident_memory
    give_back: Callable[[], None] = give_back
    _gave_back_at: int | None = None
    _slack: Slack = attrs.field(factory=Slack)

    async def run(self) -> None:
        """Look again and again, until cancelled; without bounds it is for /status only."""
        config, bounds = self.policy.config, self.policy.bounds
        interval = config.check_interval if bounds.soft is not None else config.relief_interval
        while True:
            self.look()
            await trio.sleep(interval)

    def look(self) -> None:
        """Read how much is used, and do what follows."""
        now, row, bounds = self.now(), self.board.memory, self.policy.bounds
        used = self._measured(now)
        found = memory_report(self.board, (each.holding() for each in self.sessions), used)
        # A record in the channel may be large, and only counting is cheap.
        calm = not self.policy.shed and used < (bounds.soft or 0)
        kept = self._slack.seen(found["rest"]["bytes"], held(found), calm=calm)
        slack = max(0, kept - self.board.channel.held * LARGE_RECORD_BYTES)
        step = self.policy.judge(used, now.monotonic, slack)
        if step is not None:
            self._do(step, used)
        if "buffers" in self.policy.shed:
            for session in list(self.sessions):
                session.drop_buffers(now)
        was_high = row.high
        row.used, row.slack = used, slack
        row.limit, row.soft, row.hard, row.source = attrs.astuple(bounds)
        row.shed, row.holders = list(self.policy.shed), split(found, slack)
        if row.high is not was_high:
            self._say(row)

    def _measured(self, now: Timestamp) -> int:
        """Bytes used; where that is much, or something is shed, once what is free is given back."""
        used, soft = self.used(), self.policy.bounds.soft
        if soft is None or (used < soft and not self.policy.shed):
            return used
        since = self._gave_back_at
        if since is None or now.monotonic - since >= self.policy.config.step_interval * SECOND:
            self._gave_back_at = now.monotonic
            self.give_back()
            used = self.used()
        return used

    def _do(self, step: Measure, used: int) -> None:
        match step.burden:
            case "books":
                self.outlet.conflate(step.shed)
            case "spool":
                self.outbox.spill(step.shed)
            case "buffers":
                pass  # each look does it, for as long as it is shed
        say = log.warning if step.shed else log.info
        event = "memory.shed" if step.shed else "memory.relieved"
        bounds = self.policy.bounds
        say(event, burden=step.burden, bytes=used, soft=bounds.soft, hard=bounds.hard)

    def _say(self, row: MemoryRow) -> None:
        if row.high:
            log.warning("memory.high", bytes=row.used, soft=row.soft, holders=row.holders)
        else:
            log.info("memory.fell", bytes=row.used, slack=row.slack, soft=row.soft)


async def keep_guard(
    guard: MemoryGuard, policy: SupervisionConfig, jitter: Callable[[], float]
) -> None:
    """Keep an eye on the memory for as long as there is something to shed."""

    async def attempt(_life: Attempt) -> None:
        await guard.run()

    def ended(end: Ended) -> None:
        log.error("memory.unguarded", reason=end.reason)

    await supervise("memory", attempt, policy, ended, jitter)
