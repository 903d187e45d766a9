"""What the failures of a connection to NATS mean: the one table of foreign errors."""

import re
import socket
import ssl

import nats.errors

from marketprism.errors import SinkLost, SinkRefused, SinkState
from marketprism.redaction import redact
from marketprism.sinks.publishing import Conclusion

_LIMITED_FOR = 2.0
"""Seconds before a server that has too many connections is asked again."""


def conclude(error: BaseException | None, target: str) -> Conclusion:
    """What an error means, in words; None: nothing is known of one."""
    match error:
        case ssl.SSLCertVerificationError():
            words = f"{target}: its certificate is not accepted: {error.verify_message}"
            return SinkRefused(words, SinkState.UNTRUSTED)
        case ssl.SSLError():
            return SinkLost(f"{target}: TLS failed: {error.reason or error.strerror}")
        case nats.errors.SecureConnRequiredError():
            words = f"{target} does not require TLS, and we do"
            return SinkRefused(words, SinkState.UNTRUSTED)
        case nats.errors.TimeoutError() | TimeoutError():
            return SinkLost(f"no answer from {target}")
        case ConnectionRefusedError():
            return SinkLost(f"{target} refused the connection")
        case socket.gaierror():
            return SinkLost(f"{target}: no such host: {error.strerror}")
        case None | ConnectionError() | nats.errors.UnexpectedEOF():
            return SinkLost(f"{target} closed the connection")
        case nats.errors.ConnectionClosedError():
            return SinkLost(f"{target} closed the connection")
        case nats.errors.StaleConnectionError():
            return SinkLost(f"{target} does not answer pings", SinkState.STALLED)
        case nats.errors.Error():
            words = redact(str(error).removeprefix("nats: ")).strip("'")
            if _AUTHORISATION.search(words):
                words = f"{target}: authorisation refused: {words}"
                return SinkRefused(words, SinkState.UNAUTHORISED)
            if _CONNECTIONS.search(words):
                return SinkLost(f"{target}: {words}", SinkState.LIMITED, retry_after=_LIMITED_FOR)
            return SinkLost(f"{target}: {words}")
        case OSError():
            return SinkLost(f"{target}: {redact(error.strerror or str(error))}")
        case _:
            return SinkLost(f"{target} does not answer as a NATS server does")


# Not "Authentication Timeout": that is a slow network's.
_AUTHORISATION = re.compile(
    r"(?i)permissions violation|authorization|authentication (expired|revoked)"
)
_CONNECTIONS = re.compile(r"(?i)maximum (account active )?connections exceeded")
