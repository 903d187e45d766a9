"""Ports that stay free until the test uses them, and between two uses."""

import os
import random
import socket
from itertools import count

FIRST, PER_WORKER = 12_000, 1_250
"""Below those that the kernel gives to whoever asks for any; sixteen workers have their own."""

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
_numbers = count(random.SystemRandom().randrange(PER_WORKER))


def free_port() -> int:
    """A port that nobody listens on, and that nobody else is told of soon."""
    for number in _numbers:
        port = FIRST + _worker * PER_WORKER + number % PER_WORKER
        with socket.socket() as probe:
            # What a test before us left in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("numbers do not end")
