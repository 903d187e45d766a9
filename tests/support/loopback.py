"""HTTP on this machine: nothing is encrypted, and to read all authorities takes 30 ms each time."""

import ssl
from typing import Any

import httpx

UNTRUSTING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Where a context must be given and none is used: it trusts nobody."""


def untrusting() -> ssl.SSLContext:
    """The same, where a collector asks for one."""
    return UNTRUSTING


def client(**options: Any) -> httpx.AsyncClient:
    """A client; the options are those of httpx."""
    return httpx.AsyncClient(trust_env=False, verify=UNTRUSTING, **options)
