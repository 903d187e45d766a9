"""NATS, the stream and the embedded server: every default."""

from pathlib import Path
from urllib.parse import urlsplit

import attrs

from marketprism.settings.kinds import (
    Count,
    Duration,
    FilePath,
    NatsUrl,
    Port,
    SecretText,
    Size,
    StreamName,
    Text,
    _shown,
)


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
    """The NATS sink, key by key as the section has them. One way to log in at most; what is secret
    comes from the environment or from files, which are read again for each connection.
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
