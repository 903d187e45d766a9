"""Pages to be read, as an ASGI application: what a server says to whom it let in."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

import attrs
import msgspec

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@attrs.frozen
class Answer:
    """What a page says."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def error(cls, status: HTTPStatus, *headers: tuple[str, str]) -> "Answer":
        """That status, in words."""
        return cls(msgspec.json.encode({"error": status.phrase}), status, headers=headers)


class Pages:
    """An ASGI application of pages to be read: GET and HEAD, all else is an error in JSON."""

    def __init__(self, pages: Mapping[str, Callable[[], Answer]]) -> None:
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await say(send, self._answer(scope["method"], scope["path"]), scope["method"])
            case "websocket":
                refusal = Answer.error(HTTPStatus.FORBIDDEN)
                if "websocket.http.response" in scope.get("extensions", {}):
                    await say(send, refusal, "GET", "websocket.http.response")
                else:
                    await send({"type": "websocket.close"})
            case "lifespan":
                for _ in ("startup", "shutdown"):
                    await send({"type": f"{(await receive())['type']}.complete"})

    def _answer(self, method: str, path: str) -> Answer:
        if (page := self._pages.get(path)) is None:
            return Answer.error(HTTPStatus.NOT_FOUND)
        if method not in ("GET", "HEAD"):
            return Answer.error(HTTPStatus.METHOD_NOT_ALLOWED, ("allow", "GET, HEAD"))
        return page()


async def say(send: Send, answer: Answer, method: str, kind: str = "http.response") -> None:
    """Send an answer in ASGI's parts; HEAD gets no body."""
    headers = {
        "content-type": answer.content_type,
        "content-length": str(len(answer.body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        **dict(answer.headers),
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": f"{kind}.start", "status": int(answer.status), "headers": encoded})
    await send({"type": f"{kind}.body", "body": b"" if method == "HEAD" else answer.body})
