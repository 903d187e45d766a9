"""Which proxy a URL goes through, by the rules of HTTPS_PROXY, ALL_PROXY and NO_PROXY. Pure."""

from urllib.parse import urlsplit

from marketprism.settings.settings import ProxyConfig


class Proxies:
    """The configured proxies."""

    def __init__(self, config: ProxyConfig) -> None:
        self._config = config

    def proxy_for(self, url: str) -> str | None:
        """The proxy's URL, or None when `url` is reached directly."""
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if any(_covers(entry.lower(), host) for entry in self._config.no_proxy):
            return None
        secure = parts.scheme in ("https", "wss")
        return (self._config.https if secure else None) or self._config.all


def _covers(entry: str, host: str) -> bool:
    domain = entry.removeprefix("*").removeprefix(".")
    return entry == "*" or host == domain or host.endswith("." + domain)
