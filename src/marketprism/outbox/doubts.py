"""What may be in the stream although nobody told us. Pure."""

from collections.abc import Iterable

import attrs

from marketprism.outbox.block import Numbered
from marketprism.wire import Message


@attrs.define(eq=False)
class Doubts:
    """By subject, until the last message that the stream has of it settles the doubt."""

    _upto: dict[str, int] = attrs.field(factory=dict)
    """The last number of each subject that may be in the stream."""
    _known: dict[tuple[str, str], int] = attrs.field(factory=dict)
    """The numbers of messages that may be there and are not in the log any more, by subject and
    id: what is stored up to one of them is proven by it as by any other."""
    _skipped: dict[str, str] = attrs.field(factory=dict)
    """By subject, the id of a message on disk that is stored."""

    @property
    def subjects(self) -> list[str]:
        """Those that are in doubt."""
        return list(self._upto)

    @property
    def skips(self) -> bool:
        """Something that is stored already is still to be left out, which no disk remembers."""
        return bool(self._skipped)

    def add(self, messages: Iterable[Numbered]) -> None:
        """These, which ascend, may be stored."""
        self._upto.update((message.subject, number) for number, message in messages)

    def remember(self, messages: Iterable[Numbered], lowest: int) -> None:
        """These are not in the log any more, whose lowest number is this."""
        if self._known:
            self._known = {key: number for key, number in self._known.items() if number >= lowest}
        self._known |= {(each.subject, each.msg_id): number for number, each in messages}

    def settle(self, subject: str, msg_id: str | None) -> tuple[int | None, int]:
        """The subject is in doubt no longer, whose last message in the stream has this id: up to
        which number it was (None: it was not), and the number of that message where it is not in
        the log any more, else 0.
        """
        known = 0 if msg_id is None else self._known.get((subject, msg_id), 0)
        return self._upto.pop(subject, None), known

    def skip(self, subject: str, msg_id: str) -> None:
        """The next message of this subject is stored already if it has this id: it is on disk, and
        is left out when it comes. Of a subject of which nothing was taken yet.
        """
        self._skipped[subject] = msg_id

    def is_skipped(self, message: Message) -> bool:
        """Whether this one is to be left out; asked once of each."""
        return self._skipped.pop(message.subject, None) == message.msg_id
