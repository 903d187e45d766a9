"""Whom a request means: what is bound to this machine alone answers only to this machine's names.

A page of somebody else's in a browser here may have its own name lead to 127.0.0.1 (DNS rebinding,
https://en.wikipedia.org/wiki/DNS_rebinding), and read what we say; but its requests bear that name.
"""

import ipaddress
import re
from collections.abc import Iterable

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]*)(?::\d*)?")


class OwnNames:
    """The names in a `Host` header that mean us, with any port. `configured` is what we were told
    to bind to, `bound` the address that it stands for.
    """

    def __init__(self, configured: str, bound: str) -> None:
        address = ipaddress.ip_address(bound.partition("%")[0])
        self._any = not address.is_loopback
        """Others may reach us, under whatever name they know."""
        self._names = {"localhost", "127.0.0.1", "[::1]", configured.lower()}
        self._names.add(f"[{address}]" if address.version == 6 else str(address))

    def mean_us(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these headers does. One without a name is no browser's."""
        hosts = [value for name, value in headers if name.lower() == b"host"]
        return self._any or all(self._is_ours(host.decode("latin1")) for host in hosts)

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host.strip().lower())
        return found is not None and found[1].removesuffix(".") in self._names
