"""The kinds of values that a configuration has, each with how it is read."""

from pathlib import Path
from typing import Annotated

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


def _shown(value: object) -> str:
    return redact(repr(value))
