"""How virtual clients reach virtual hosts: by websocket over wires, and over HTTP."""

import random
import ssl
from collections import defaultdict
from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs
import httpx
import trio
from truth import Truthful
from wires import Link

from marketprism.simulator.rest import Rest
from marketprism.simulator.server import attend
from marketprism.simulator.wire import Wire


@attrs.define(eq=False)
class Weather:
    """What the way to one host is like."""

    refuses_until: float = 0.0
    """It refuses connections."""
    swallows_until: float = 0.0
    """It does not even do that."""
    garbles: int = 0
    """So many of the next REST answers are no answers."""
    hangs: int = 0
    """So many of the next requests are never answered."""


class Net(httpx.AsyncBaseTransport):
    """All hosts: `dial` for websockets; for httpx it is a transport."""

    def __init__(
        self, exchanges: Mapping[str, Truthful], chance: random.Random, nursery: trio.Nursery
    ) -> None:
        self.weather = {host: Weather() for host in exchanges}
        self.links: list[Link] = []
        self.dialled: dict[str, list[float]] = defaultdict(list)
        """When each host was dialled."""
        self._exchanges = exchanges
        self._apps = {
            host: httpx.ASGITransport(app=Rest(exchange))  # type: ignore[arg-type]
            for host, exchange in exchanges.items()
        }
        self._chance = chance
        self._nursery = nursery

    async def dial(self, url: str, _proxy: str | None, _tls: ssl.SSLContext) -> trio.abc.Stream:
        """A websocket's connection, when the weather allows one."""
        host = urlsplit(url).netloc
        self.dialled[host].append(trio.current_time())
        await self._way(host, ConnectionRefusedError(111, "Connection refused"))
        link = Link.between(host, self._chance)
        self.links.append(link)
        client, server = link.ends()
        self._nursery.start_soon(self._attend, link, Wire(server))
        return client

    def after(self, seconds: float, exchange: Truthful, ident: int) -> None:
        """End one of an exchange's connections in so many seconds."""
        self._nursery.start_soon(self._end, seconds, exchange, ident)

    async def _end(self, seconds: float, exchange: Truthful, ident: int) -> None:
        await trio.sleep(seconds)
        if (connection := exchange.connections.get(ident)) is not None:
            connection.abort()

    async def _attend(self, link: Link, wire: Wire) -> None:
        await attend(self._exchanges[link.host], wire)
        link.ended = True
        self.links.remove(link)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.netloc.decode()
        weather = self.weather[host]
        await self._way(host, httpx.ConnectError("it refuses the connection"))
        if weather.hangs:
            weather.hangs -= 1
            await trio.sleep_forever()
        response = await self._apps[host].handle_async_request(request)
        await trio.sleep(self._chance.uniform(0.005, 0.05))
        if weather.garbles:
            weather.garbles -= 1
            return httpx.Response(200, text="<html>Bad gateway</html>")
        return response

    async def _way(self, host: str, refusal: Exception) -> None:
        weather = self.weather[host]
        await trio.sleep(self._chance.uniform(0.005, 0.05))
        if weather.swallows_until > trio.current_time():
            await trio.sleep_forever()
        if weather.refuses_until > trio.current_time():
            raise refusal
