"""The collector as it runs in virtual time: the clock, the network and the broker are ours."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import trio
from broker import Broker, BrokerSink
from chaos import Clock
from loopback import untrusting
from web import Net

from marketprism.app import Collector
from marketprism.clock import Timestamp
from marketprism.observe.cgroup import Limit
from marketprism.settings.settings import Config

T = TypeVar("T")


async def at_once(function: Callable[..., T], *arguments: Any) -> T:
    """Where a disk is used: the real one, but in no thread, which would have its own time."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


def staged(
    config: Config, clock: Clock, chance: random.Random, net: Net, broker: Broker
) -> Collector:
    """One that has not begun yet."""
    return Collector(
        config,
        now=lambda: Timestamp(clock.wall(), round(trio.current_time() * 1e9) + 1),
        jitter=chance.random,
        dial=net.dial,
        transport=net,
        tls=untrusting,
        sink=partial(BrokerSink, broker),
        limit=lambda: Limit(None, "none"),
        worker=at_once,
        pages=False,
    )
