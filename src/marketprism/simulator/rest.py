"""The REST side of a simulated exchange, as an ASGI application, with the control of its faults."""

import inspect
from typing import get_type_hints
from urllib.parse import parse_qsl

import msgspec
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope

from .exchange import Exchange
from .faults import FAULTS, Faults
from .skin import Answer, Request

_MOST_BODY = 1 << 20


class Rest:
    """`/simulator` for people and tests; every other path is the exchange's own."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """One request, or the life of the server."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            body = await _body(receive)
            async with trio.open_nursery() as nursery:
                # A book may be waited for: not longer than the client does.
                nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
                await _respond(send, await self._answer(scope, body))
                nursery.cancel_scope.cancel()

    async def _answer(self, scope: HTTPScope, body: bytes) -> Answer:
        path, method = scope["path"], scope["method"]
        if path == "/simulator" and method == "GET":
            faults = {name: str(inspect.signature(fault)) for name, fault in FAULTS.items()}
            return _json(200, {**self._exchange.state(), "faults": faults})
        if path == "/simulator/faults" and method == "POST":
            try:
                return _json(200, {"result": _do_fault(self._exchange.faults, body)})
            except ValueError as error:
                return _json(400, {"error": str(error)})
        if path.startswith("/simulator"):
            return _json(404, {"error": "GET /simulator or POST /simulator/faults"})
        self._exchange.requests += 1
        self._exchange.paths[path] += 1
        failure = self._exchange.faults.waiting.failure(path)
        if failure is not None:
            return failure
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        answer = await self._exchange.skin.answer(Request(path, query), self._exchange)
        await trio.sleep(self._exchange.faults.waiting.delay(path))
        return self._exchange.faults.waiting.altered(path, answer)


def _do_fault(faults: Faults, body: bytes) -> object:
    """Do the fault a JSON object asks for, and return its result.

    Raises:
        ValueError: it asks for none there is, or with arguments it does not take.
    """
    try:
        asked = msgspec.json.decode(body, type=dict[str, object])
        method = FAULTS[str(asked.pop("fault", None))]
        hints = get_type_hints(method)
        arguments = {name: msgspec.convert(value, hints[name]) for name, value in asked.items()}
        inspect.signature(method).bind(faults, **arguments)
    except KeyError as error:
        raise ValueError(f"{error.args[0]}: unknown") from error
    except TypeError as error:
        raise ValueError(str(error)) from error
    return method(faults, **arguments)


async def _body(receive: ASGIReceiveCallable) -> bytes:
    body = b""
    while len(body) <= _MOST_BODY:
        event = await receive()
        if event["type"] != "http.request":
            break
        body += event["body"]
        if not event["more_body"]:
            break
    return body


async def _cancel_when_gone(receive: ASGIReceiveCallable, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _respond(send: ASGISendCallable, answer: Answer) -> None:
    kind = "text/html" if answer.body.startswith(b"<") else "application/json"
    headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(answer.body))]
    headers += [(name.lower().encode(), text.encode()) for name, text in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


def _json(status: int, value: object) -> Answer:
    return Answer(status, msgspec.json.encode(value))
