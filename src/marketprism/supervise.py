"""Restarting what fails: policies that know no clock, and the one loop that applies them.

What an attempt raises says what to do: the world got in the way (`Transient`: again, for ever),
the host will not have us (`Refused`: again, slowly), or anything else: a bug, which is borne a
few times and then ends the process. A cancellation is nobody's failure.
"""

import random
from collections import deque
from collections.abc import Awaitable, Callable
from enum import StrEnum

import attrs
import structlog
import trio

from marketprism.errors import MarketPrismError, Refused, StartFailed, Transient, leaves, no_room
from marketprism.settings.supervision import SupervisionConfig

uniform = random.random
"""In [0, 1): the chance that waits are jittered by, where no other is given."""

log = structlog.get_logger()


@attrs.define
class Backoff:
    """Waits between attempts: a random part of `first`·2ⁿ, at most `cap` (full jitter)."""

    first: float
    cap: float
    failures: int = 0

    def wait(self, jitter: float, at_least: float | None = None) -> float:
        """Seconds to wait after one more failure; `jitter` is uniform in [0, 1)."""
        longest = min(self.cap, self.first * 2.0 ** min(self.failures, 60))
        self.failures += 1
        return max(longest * jitter, at_least or 0.0)

    def reset(self) -> None:
        """It worked."""
        self.failures = 0


@attrs.define
class Intensity:
    """How many bugs are borne: `restarts` within `window` seconds."""

    restarts: int
    window: float
    times: deque[float] = attrs.field(factory=deque)

    def exceeded(self, now: float) -> bool:
        """Count one at `now` seconds; whether that is more than is borne."""
        self.times.append(now)
        while self.times[0] <= now - self.window:
            self.times.popleft()
        return len(self.times) > self.restarts


class BreakerState(StrEnum):
    """Whether a host is called."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@attrs.define
class CircuitBreaker:
    """Spares a host that fails: open after `failure_threshold` failures in a row, half-open after
    `recovery_timeout` seconds, when one caller may try; what that one finds decides. Times are
    monotonic nanoseconds.
    """

    failure_threshold: int
    recovery_timeout: float
    failures: int = 0
    opened_at: int | None = None
    probing_since: int | None = None

    def state(self, now: int) -> BreakerState:
        """Where it stands."""
        if self.opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._recovers_at() else BreakerState.HALF_OPEN

    def admit(self, now: int) -> int:
        """0: the call may be made, and its outcome must be told. Else the nanoseconds to wait
        before asking again. A probe that never told its outcome is forgotten after as long.
        """
        if self.opened_at is None:
            return 0
        if now < self._recovers_at():
            return self._recovers_at() - now
        patience = round(self.recovery_timeout * 1e9)
        if self.probing_since is not None and now < self.probing_since + patience:
            return self.probing_since + patience - now
        self.probing_since = now
        return 0

    def succeeded(self) -> None:
        """The host answered."""
        self.failures, self.opened_at, self.probing_since = 0, None, None

    def failed(self, now: int) -> None:
        """It did not."""
        self.failures += 1
        if self.failures >= self.failure_threshold:
            self.opened_at, self.probing_since = now, None

    def _recovers_at(self) -> int:
        assert self.opened_at is not None
        return self.opened_at + round(self.recovery_timeout * 1e9)


class Conclusion(StrEnum):
    """What an attempt's end means."""

    TRANSIENT = "transient"
    REFUSED = "refused"
    BUG = "bug"
    FATAL = "fatal"


@attrs.frozen
class Ended:
    """How an attempt ended."""

    conclusion: Conclusion
    reason: str
    """In words, for people."""
    retry_after: float | None = None


@attrs.define(eq=False)
class Attempt:
    """One life of a supervised task, as the supervisor follows it."""

    productive_since: float | None = None
    """When it first produced something, by Trio's clock; it says so itself."""

    def produced(self) -> None:
        """Something good came of it."""
        if self.productive_since is None:
            self.productive_since = trio.current_time()


def conclude(error: BaseException) -> Ended:
    """What an error means, or a group of them: a bug outweighs a refusal, that the world."""
    found = list(leaves(error))
    if fatal := [leaf for leaf in found if isinstance(leaf, StartFailed)]:
        return Ended(Conclusion.FATAL, str(fatal[0]))
    # Whoever takes all file descriptors must not have us give up what asks for one.
    found = [Transient(f"no room: {leaf}") if no_room(leaf) else leaf for leaf in found]
    bugs = [leaf for leaf in found if not isinstance(leaf, MarketPrismError)]
    if bugs:
        return Ended(Conclusion.BUG, f"{type(bugs[0]).__name__}: {bugs[0]}")
    if refusals := [leaf for leaf in found if isinstance(leaf, Refused)]:
        return Ended(Conclusion.REFUSED, str(refusals[0]))
    weather = [leaf for leaf in found if isinstance(leaf, Transient)]
    if len(weather) < len(found):
        strange = next(leaf for leaf in found if not isinstance(leaf, Transient))
        return Ended(Conclusion.BUG, f"{type(strange).__name__}: {strange}")
    waits = [leaf.retry_after for leaf in weather if leaf.retry_after is not None]
    return Ended(Conclusion.TRANSIENT, str(weather[0]), max(waits, default=None))


async def supervise(
    name: str,
    attempt: Callable[[Attempt], Awaitable[None]],
    policy: SupervisionConfig,
    ended: Callable[[Ended], None],
    jitter: Callable[[], float] = uniform,
) -> None:
    """Run `attempt` again and again until it returns or this is cancelled.

    `ended` is told of each failure before the wait. A bug beyond the intensity is raised, and
    what cannot be had at all (`StartFailed`) at once. `jitter` is uniform in [0, 1).
    """
    backoff = Backoff(policy.backoff.first, policy.backoff.cap)
    intensity = Intensity(policy.intensity.restarts, policy.intensity.window)
    while True:
        life = Attempt()
        failure: Exception | None = None
        try:
            await attempt(life)
        except BaseExceptionGroup as group:
            ours, foreign = group.split(Exception)
            if foreign is not None or ours is None:
                raise
            failure = ours
        except Exception as error:
            failure = error
        if failure is None:
            return
        end = conclude(failure)
        if end.conclusion is Conclusion.FATAL:
            raise failure
        now = trio.current_time()
        since = life.productive_since
        if since is not None and now - since >= policy.backoff.reset_after:
            backoff.reset()
        ended(end)
        if end.conclusion is Conclusion.BUG:
            log.error("task.failed", task=name, reason=end.reason, exc_info=failure)
            if intensity.exceeded(now):
                log.critical("task.given_up", task=name, restarts=policy.intensity.restarts)
                raise failure
        least = end.retry_after
        if end.conclusion is Conclusion.REFUSED:
            least = policy.refused_retry
        wait = backoff.wait(jitter(), least)
        await trio.sleep(wait)
