"""What becomes of the commands of websockets, on request: they are refused, obeyed in silence, or
answered in another form.
"""

from typing import Any, Literal

import attrs
import msgspec
import trio

from .skin import Client, Reply, Skin

Subject = Literal["subscribe", "unsubscribe", "heartbeat"]
"""What a command is about."""
Form = Literal["text_id", "more_keys", "empty_result"]
"""How an answer differs from what is documented: its id as text, keys that nobody knows, or a list
of nothing as its result.
"""


@attrs.define
class _Refusal:
    until: float
    error: tuple[str, str]
    """Its code and words."""
    stream: str | None


class Answers:
    """How one exchange answers, in Trio's time."""

    def __init__(self) -> None:
        self._refusals: list[_Refusal] = []
        self._silences: dict[Subject | None, float] = {}
        self._odd: tuple[float, Form] = (float("-inf"), "more_keys")

    def refuse(self, seconds: float, code: str, words: str, stream: str | None) -> None:
        """Grant no stream, or that one not, for so long."""
        self._refusals.append(_Refusal(trio.current_time() + seconds, (code, words), stream))

    def lose(self, seconds: float, about: Subject | None) -> None:
        """Say nothing to commands about that, or to any, for so long; they are obeyed."""
        self._silences[about] = trio.current_time() + seconds

    def distort(self, seconds: float, form: Form) -> None:
        """Answer in that form for so long."""
        self._odd = trio.current_time() + seconds, form

    def given(self, text: str, reply: Reply, client: Client, skin: Skin) -> Reply:
        """The reply to a command, as it is given just now."""
        now, about = trio.current_time(), _subject(text, reply)
        self._refusals = [refusal for refusal in self._refusals if refusal.until > now]
        for refusal in self._refusals:
            refused = [each for each in reply.add if refusal.stream in (None, each)]
            if refused:
                reply = skin.refusal(text, refusal.error, refused[0], client)
                break
        if max(self._silences.get(each, 0.0) for each in (None, about)) > now:
            return attrs.evolve(reply, texts=())
        until, form = self._odd
        if until > now:
            return attrs.evolve(reply, texts=tuple(_odd(each, form) for each in reply.texts))
        return reply


def _subject(text: str, reply: Reply) -> Subject | None:
    if reply.add:
        return "subscribe"
    if reply.remove:
        return "unsubscribe"
    beat = reply.alive or reply.heartbeat is not None or text == "ping"
    return "heartbeat" if beat else None


def _odd(text: str, form: Form) -> str:
    try:
        body: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        # A pong.
        return text
    if form == "text_id" and "id" in body:
        body["id"] = str(body["id"])
    elif form == "more_keys":
        body |= {"status": 200, "rateLimits": [], "note": {"id": 1}}
    elif form == "empty_result" and "result" in body:
        body["result"] = []
    return msgspec.json.encode(body).decode()
