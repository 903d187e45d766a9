"""Everything that can be configured, with its meaning, its unit and its default.

A field's name is its key in the YAML file. Times are in seconds, sizes in bytes; the file may
write `48h` or `2GiB`. URLs may hold passwords: they are shown without.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs

from marketprism.settings.exchanges import VenueConfig
from marketprism.settings.kinds import (
    Count,
    CountOrNone,
    Duration,
    DurationOrNever,
    FilePath,
    Flag,
    Port,
    ProxyUrl,
    Share,
    ShareOrSize,
    Size,
    Text,
    _shown,
)
from marketprism.settings.nats import NatsConfig
from marketprism.settings.supervision import SupervisionConfig

Burden = Literal["books", "buffers", "spool"]
"""What can be shed where memory is short."""
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


@attrs.frozen
class ChannelConfig:
    """The channel between all feeds and the outbox."""

    capacity: Count = 100_000
    """Records it holds, at most; what does not fit is lost and published as a gap."""
    conflate_books: Flag = True
    """Whether books give way before anything else is lost: their updates are withheld while the
    channel is pressed, and a snapshot stands for them when it is not, after a gap.
    """
    conflate_at: Share = 0.5
    """The part of the capacity above which it is pressed; at half of that it no longer is."""


@attrs.frozen
class SpoolConfig:
    """Where messages wait on disk when there are too many of them for memory, or at a stop."""

    enabled: Flag = True
    """Without it what memory does not hold is lost, and so is what is held at a stop."""
    path: FilePath = Path("data/spool")
    """Its directory, from the working directory; one process at a time."""
    max_bytes: Size = 2 * 2**30
    """Size of its file, at most; then the oldest messages go, each inside a published gap."""
    min_free: Size = 512 * 2**20
    """What it leaves of the disk, whatever it may hold itself."""


@attrs.frozen
class OutboxConfig:
    """What is held until the sink has acknowledged it."""

    max_messages: Count = 500_000
    """In memory, at most."""
    max_bytes: Size = 256 * 2**20
    """Bytes of payload in memory, at most."""
    spool: SpoolConfig = SpoolConfig()


@attrs.frozen
class MemoryConfig:
    """The memory guard. Shares are of the limit of our control group, which is a container's; where
    it has none, they mean nothing, and sizes can be given.
    """

    soft: ShareOrSize = 0.7
    """Resident memory above which health is degraded, and says what holds it."""
    hard: ShareOrSize = 0.85
    """Resident memory above which burdens are shed."""
    check_interval: Duration = 0.5
    """Time between two looks."""
    step_interval: Duration = 2.0
    """Time between two burdens that are shed, and between two attempts to give memory back."""
    relief_interval: Duration = 10.0
    """Time below `soft` after which each is taken up again, the last one first."""
    shed_order: tuple[Burden, ...] = ("books", "buffers", "spool")
    """What is shed, in turn: the updates of books, what waits for their snapshots, and what the
    outbox holds in memory.
    """

    def __attrs_post_init__(self) -> None:
        if (self.soft > 1) is (self.hard > 1) and self.soft > self.hard:
            raise ValueError("soft must not be above hard")


@attrs.frozen
class HttpConfig:
    """Health, status and dashboard."""

    host: Text = "127.0.0.1"
    port: Port = 8086


@attrs.frozen
class MetricsConfig:
    """Prometheus."""

    host: Text = "127.0.0.1"
    port: Port = 9093


@attrs.frozen
class ProxyConfig:
    """How the exchanges are reached; NATS is reached directly."""

    https: ProxyUrl | None = attrs.field(default=None, repr=_shown)
    """For `https://` and `wss://`."""
    all: ProxyUrl | None = attrs.field(default=None, repr=_shown)
    """For whatever the former does not name."""
    no_proxy: tuple[Text, ...] = ()
    """Hosts and domains reached directly; `*` is every host."""


@attrs.frozen
class LogFile:
    """The log file, as `config/logging/logging_config.yaml` sets it."""

    path: FilePath | None = Path("logs/collector.log")
    """From the working directory. Null: no file."""
    max_bytes: Size = 20 * 2**20
    """Size at which it is rotated."""
    backups: CountOrNone = 5
    """Rotated files that are kept."""


@attrs.frozen
class LogConfig:
    """What is logged."""

    level: LogLevel = "INFO"
    summary_interval: DurationOrNever = 60.0
    """Time between two lines of rates and of what is down. 0: none."""


@attrs.frozen
class Config:
    """The whole configuration: a section of the file is an attribute."""

    exchanges: Mapping[str, VenueConfig] = attrs.field(factory=dict)
    """What is collected, by venue; those that are not enabled are left out."""
    sink: Literal["nats", "stdout"] = "nats"
    """Where records go."""
    nats: NatsConfig = NatsConfig()  # noqa: RUF009 (frozen)
    channel: ChannelConfig = ChannelConfig()
    outbox: OutboxConfig = OutboxConfig()
    memory: MemoryConfig = MemoryConfig()
    supervision: SupervisionConfig = SupervisionConfig()  # noqa: RUF009 (frozen)
    http: HttpConfig = HttpConfig()
    metrics: MetricsConfig = MetricsConfig()
    proxy: ProxyConfig = ProxyConfig()
    log: LogConfig = LogConfig()
    log_file: LogFile = LogFile()
    """Never a key of the main file: `logging_config.yaml` is its own."""
    shutdown_grace: Duration = 4.0
    """Time everything has to end in once asked to."""
