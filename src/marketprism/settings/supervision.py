"""How what fails is tried again, and what has fallen silent is found: every default."""

import attrs

from marketprism.settings.kinds import Count, Duration


@attrs.frozen
class BackoffConfig:
    """Waits between attempts: a random part of `first`·2ⁿ, at most `cap`."""

    first: Duration = 0.5
    """Longest wait before the first new attempt."""
    cap: Duration = 15.0
    """Longest wait of all. With the breaker's and what follows them it leaves everything live again
    a minute after the last fault; what an exchange allows is kept to by `connects_per_window`.
    """
    reset_after: Duration = 60.0
    """Time an attempt must have produced records for n to be 0 again."""

    def __attrs_post_init__(self) -> None:
        if self.cap < self.first:
            raise ValueError("cap must not be shorter than first")


@attrs.frozen
class IntensityConfig:
    """How many failures that are nobody's weather, but bugs, are borne before the process ends."""

    restarts: Count = 5
    window: Duration = 600.0
    """The time `restarts` counts over."""


@attrs.frozen
class BreakerConfig:
    """When a host that fails is left alone; its REST and its websockets apart."""

    failure_threshold: Count = 5
    """Failures in a row after which it is not called."""
    recovery_timeout: Duration = 10.0
    """Time until one caller may try it again."""


@attrs.frozen
class FreshnessConfig:
    """When a stream that says nothing is suspect. Streams of a fixed period, and those that may be
    silent for hours, have limits of their own.
    """

    first_record: Duration = 60.0
    """For a book: from its subscription to its first record, at most."""
    first_trade: Duration = 600.0
    """The same for trades."""
    floor: Duration = 30.0
    """Silence that is borne of any stream."""
    ceiling: Duration = 3600.0
    """Silence that is borne of none, whatever its rhythm was."""
    factor: Count = 8
    """Silence that is borne, as a multiple of the longest in the stream's recent rhythm."""

    def __attrs_post_init__(self) -> None:
        if self.ceiling < self.floor:
            raise ValueError("ceiling must not be shorter than floor")


@attrs.frozen
class SupervisionConfig:
    """How what fails is started again."""

    backoff: BackoffConfig = BackoffConfig()
    intensity: IntensityConfig = IntensityConfig()
    breaker: BreakerConfig = BreakerConfig()
    freshness: FreshnessConfig = FreshnessConfig()
    refused_retry: Duration = 300.0
    """Time between attempts at a host, or a stream, that refuses us, and at what is not listed."""
