"""What a stream is asked about its messages: some hundred questions are on the way at once.

It runs in asyncio. An error is an answer, too: who asks concludes from it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import attrs
from nats.aio.client import Client

from marketprism.resume import last_message
from marketprism.resume.last_message import Stored

AT_ONCE = 200

Q = TypeVar("Q")
A = TypeVar("A")


@attrs.frozen
class Questions:
    """To one stream, over one connection, each with so many seconds for its answer."""

    client: Client
    stream: str
    limit: float

    async def last(self, subjects: Sequence[str]) -> dict[str, Stored | BaseException]:
        """The last message of each subject; of those that have one."""

        async def ask(subject: str) -> Stored | None:
            return await self._ask(last_message.question(subject))

        told = await _all(ask, subjects)
        pairs = zip(subjects, told, strict=False)
        return {subject: stored for subject, stored in pairs if stored is not None}

    async def earlier(self, messages: Sequence[Stored]) -> dict[str, list[Stored] | BaseException]:
        """What is stored before each of these, by subject."""

        async def walk(message: Stored) -> list[Stored]:
            walking = last_message.backwards(message)
            try:
                start = next(walking)
                while True:
                    body = last_message.question_from(message.subject, start)
                    start = walking.send(await self._ask(body))
            except StopIteration as end:
                found: list[Stored] = end.value
                return found

        told = await _all(walk, messages)
        return {each.subject: found for each, found in zip(messages, told, strict=False)}

    async def _ask(self, body: bytes) -> Stored | None:
        subject = f"$JS.API.{last_message.QUESTION}{self.stream}"
        answer = await self.client.request(subject, body, self.limit)
        return last_message.read(answer.data, self.stream)


async def _all(ask: Callable[[Q], Awaitable[A]], questions: Sequence[Q]) -> list[A | BaseException]:
    """The answers, up to those that came together with the first error."""
    found: list[A | BaseException] = []
    for start in range(0, len(questions), AT_ONCE):
        batch = map(ask, questions[start : start + AT_ONCE])
        found += await asyncio.gather(*batch, return_exceptions=True)
        if any(isinstance(answer, BaseException) for answer in found[start:]):
            break
    return found
