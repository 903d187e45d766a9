"""`simulate`: a simulated exchange alone, for whatever wants to connect to it."""

import signal
from pathlib import Path

import trio

from . import Exchange, market, player
from .server import Address, serve


def run(
    venue: str,
    *,
    ws_port: int,
    rest_port: int,
    seed: int,
    capture: Path | None,
    speed: float,
) -> None:
    """Serve until Ctrl-C or SIGTERM, and say how to point a collector at it."""
    if capture is None:
        exchange = market(venue, seed=seed)
    else:
        exchange = player(capture, venue=venue, speed=speed)
    trio.run(_serve, exchange, venue, ws_port, rest_port)


async def _serve(exchange: Exchange, venue: str, ws_port: int, rest_port: int) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def server(task_status: trio.TaskStatus[Address]) -> None:
                await serve(exchange, ws_port=ws_port, rest_port=rest_port, task_status=task_status)

            address = await nursery.start(server)
            print(f"symbols: {', '.join(exchange.symbols)}")
            print("to collect from it, in the configuration:")
            print(f"exchanges:\n  {venue}:\n    api:")
            print(f"      base_url: {address.base_url}\n      ws_url: {address.ws_url}")
            print(f'faults: curl -d \'{{"fault": "cut"}}\' {address.base_url}/simulator/faults')
            print(f"state: {address.base_url}/simulator", flush=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()
