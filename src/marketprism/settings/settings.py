"""Everything that can be configured, with its meaning, its unit and its default.

A field's name is its key in the YAML file. Times are in seconds, sizes in bytes; the file may
write `48h` or `2GiB`. URLs may hold passwords: they are shown without.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import attrs

from marketprism.records import DataType
from marketprism.redaction import Secret, redact
from marketprism.settings import quantities

Text = Annotated[str, quantities.text]
SecretText = Annotated[Secret, quantities.secret]
StreamName = Annotated[str, quantities.stream_name]
FilePath = Annotated[Path, quantities.path]
Flag = Annotated[bool, quantities.flag]
Count = Annotated[int, quantities.count]
CountOrNone = Annotated[int, quantities.count_or_none]
Levels = Annotated[int, quantities.levels]
Port = Annotated[int, quantities.port]
Share = Annotated[float, quantities.share]
Duration = Annotated[float, quantities.duration]
DurationOrNever = Annotated[float, quantities.duration_or_never]
Size = Annotated[int, quantities.size]
ShareOrSize = Annotated[float, quantities.share_or_size]
HttpUrl = Annotated[str, quantities.http_url]
WebsocketUrl = Annotated[str, quantities.websocket_url]
NatsUrl = Annotated[str, quantities.nats_url]
ProxyUrl = Annotated[str, quantities.proxy_url]
Burden = Literal["books", "buffers", "spool"]
"""What can be shed where memory is short."""
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def _shown(value: object) -> str:
    return redact(repr(value))


@attrs.frozen
class Api:
    """Where an exchange answers. Roots: the venue adds its own paths."""

    base_url: HttpUrl = attrs.field(repr=_shown)
    """REST."""
    ws_url: WebsocketUrl = attrs.field(repr=_shown)
    """Websockets."""


@attrs.frozen
class TradeOptions:
    """How trades are taken."""

    kind: Literal["raw", "aggregated"] = "raw"
    """Every trade, or the exchange's aggregate of those of one order (Binance `aggTrade`)."""


@attrs.frozen
class OrderbookOptions:
    """How order books are published."""

    mode: Literal["updates", "snapshot"] = "updates"
    """Every update with snapshots between, or only snapshots of the local book."""
    depth: Levels = 400
    """Levels a side in a snapshot, at most."""
    snapshot_interval: DurationOrNever = 10.0
    """Time between two snapshots of a book. 0: only after a (re)synchronisation."""
    audit_interval: DurationOrNever = 1800.0
    """Time between two comparisons of a book with a fresh snapshot, at least: they wait for room
    in the REST budget. 0: never, but for a Binance book that is fetched again because the market
    has left what was known of it.
    """

    def __attrs_post_init__(self) -> None:
        if self.mode == "snapshot" and not self.snapshot_interval:
            raise ValueError("snapshot_interval must not be 0 in mode snapshot")


@attrs.frozen
class Limits:
    """How a venue is to be treated: heartbeat, pacing, sizes. The key is `limits`."""

    connect_timeout: Duration = 10.0
    """Time a connection may take from dialling to the end of the handshake."""
    connection_life: DurationOrNever = 0.0
    """Time after which another connection takes over, before the exchange ends this one. 0: only
    when the exchange announces its end."""
    silence_timeout: Duration = 90.0
    """Time without any frame after which a connection is given up."""
    heartbeat: DurationOrNever = 0.0
    """Time between the heartbeats this side owes. 0: it owes none, it answers pings."""
    message_interval: DurationOrNever = 0.25
    """Least time between two messages sent on one connection."""
    subscribe_batch: Count = 100
    """Streams in one subscribe message, at most."""
    streams_per_connection: Count = 200
    """Streams on one connection, at most."""
    max_message_bytes: Size = 16 * 2**20
    """Size of one received message, at most; a larger one ends its connection."""
    connects_per_window: Count = 150
    """Connection attempts to one host within `connect_window`, at most."""
    connect_window: Duration = 300.0
    """The time `connects_per_window` counts over."""
    rest_weight: Count = 6000
    """What the host allows in REST weight within `rest_window`."""
    rest_window: Duration = 60.0
    rest_share: Share = 0.75
    """The part of that weight which is used."""


@attrs.frozen
class VenueConfig:
    """What is collected from one venue."""

    name: Text
    """Its id, as in `exchanges.<name>`; never a key of its own."""
    api: Api
    symbols: tuple[Text, ...]
    """BASE-QUOTE, or patterns with `*` and `?`; bare currencies for a volatility index."""
    data_types: tuple[DataType, ...]
    """By default everything the venue offers."""
    enabled: Flag = True
    """Whether it is collected at all."""
    trade: TradeOptions = TradeOptions()
    orderbook: OrderbookOptions = OrderbookOptions()
    limits: Limits = Limits()


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
class StreamConfig:
    """The JetStream stream. One that exists is widened where it must be, never narrowed."""

    name: StreamName = "MARKET_DATA"
    max_messages: Count = 5_000_000
    max_bytes: Size = 2 * 2**30
    max_age: Duration = 48 * 3600.0
    duplicate_window: Duration = 120.0
    """How long the server remembers message ids."""

    def __attrs_post_init__(self) -> None:
        if self.duplicate_window > self.max_age:
            raise ValueError("duplicate_window must not be longer than max_age")


@attrs.frozen
class EmbeddedConfig:
    """The nats-server that is started when `servers` is empty."""

    host: Text = "127.0.0.1"
    port: Port = 4222
    """A free one is taken where this is in use, and /health is degraded and says by what."""
    monitor_port: Port = 8222
    """Its own HTTP, with `/healthz`; a free one where this is in use, which the log says."""
    store_dir: FilePath = Path("data/nats")
    """Where it keeps its streams; from the working directory."""
    config_file: FilePath | None = None
    """Its further settings; by default `./config/nats/nats-server.conf`, else the packaged copy."""


@attrs.frozen
class TlsConfig:
    """TLS with NATS. With any of these keys it is required of every server, as of `tls://` ones."""

    ca_file: FilePath | None = None
    """The authorities that are trusted, in place of the system's."""
    cert_file: FilePath | None = None
    """Our own certificate, for servers that want one."""
    key_file: FilePath | None = None
    """Its key, not encrypted."""

    def __attrs_post_init__(self) -> None:
        if (self.cert_file is None) is not (self.key_file is None):
            raise ValueError("cert_file and key_file need each other")

    @property
    def wanted(self) -> bool:
        """Whether anything is said of TLS."""
        return self.ca_file is not None or self.cert_file is not None


@attrs.frozen
class NatsConfig:
    """The NATS sink. One way to log in at most; what is secret comes from the environment or from
    files, which are read again for each connection.
    """

    servers: tuple[NatsUrl, ...] = attrs.field(default=(), repr=_shown)
    """Of one cluster. Empty: the embedded server."""
    user: Text | None = None
    password: SecretText | None = attrs.field(default=None, metadata={"variable": "NATS_PASSWORD"})
    """Never a key of the file: the variable says it."""
    password_file: FilePath | None = None
    token: SecretText | None = attrs.field(default=None, metadata={"variable": "NATS_TOKEN"})
    """Never a key of the file: the variable says it."""
    token_file: FilePath | None = None
    creds_file: FilePath | None = None
    """A user's JWT and seed, as `nsc` writes them."""
    nkey_seed_file: FilePath | None = None
    tls: TlsConfig = TlsConfig()
    stream: StreamConfig = StreamConfig()
    window: Count = 4096
    """Messages published and not yet acknowledged, at most."""
    batch: Count = 256
    """Messages handed to the NATS client at once, at most."""
    ack_timeout: Duration = 2.0
    """Time without any acknowledgement, while some are owed, after which the connection is lost."""
    connect_timeout: Duration = 5.0
    restart_lookup: Duration = 5.0
    """Time that feeds wait at the start for the stream to say where they stood, at most."""
    embedded: EmbeddedConfig = EmbeddedConfig()

    def __attrs_post_init__(self) -> None:
        ways = {
            "a user or token in a server's URL": any(
                urlsplit(url).username for url in self.servers
            ),
            "user": self.user or self.password or self.password_file,
            "token": self.token,
            "token_file": self.token_file,
            "creds_file": self.creds_file,
            "nkey_seed_file": self.nkey_seed_file,
        }
        if len(named := [way for way, said in ways.items() if said]) > 1:
            raise ValueError(f"names more than one way to log in: {', '.join(named)}")
        if self.password and self.password_file:
            raise ValueError("the password is in NATS_PASSWORD and in password_file: one must go")
        if self.user and not (self.password or self.password_file):
            raise ValueError("user needs a password: NATS_PASSWORD, or password_file")
        if ways["user"] and not self.user:
            raise ValueError("a password needs a user")


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
    """The whole configuration."""

    exchanges: Mapping[str, VenueConfig] = attrs.field(factory=dict)
    """What is collected, by venue; those that are not enabled are left out."""
    sink: Literal["nats", "stdout"] = "nats"
    """Where records go."""
    nats: NatsConfig = NatsConfig()
    channel: ChannelConfig = ChannelConfig()
    outbox: OutboxConfig = OutboxConfig()
    memory: MemoryConfig = MemoryConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    http: HttpConfig = HttpConfig()
    metrics: MetricsConfig = MetricsConfig()
    proxy: ProxyConfig = ProxyConfig()
    log: LogConfig = LogConfig()
    log_file: LogFile = LogFile()
    """Never a key of the main file: `logging_config.yaml` is its own."""
    shutdown_grace: Duration = 4.0
    """Time everything has to end in once asked to."""
