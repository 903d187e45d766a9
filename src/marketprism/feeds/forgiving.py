"""A message that cannot be read as a whole, read field by field. Pure.

The strict reader is the ordinary way, and costs what it always did: only what it refuses comes
here. Then a field that has a default takes it where what is said cannot be read (a null, another
type, out of its bounds); without one that has none the message is of no use, and the refusal
stands. Where only the spelling differs (a whole number as text, a number where text is expected)
nothing is lost: it is read as what it says.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from marketprism import decimals

Kind = TypeVar("Kind", bound=msgspec.Struct)
Text = bytes | msgspec.Raw
"""JSON."""

_text = msgspec.json.Decoder(str).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_row = msgspec.json.Decoder(list[msgspec.Raw]).decode
_rows = msgspec.json.Decoder(list[list[msgspec.Raw]]).decode


def forgiving(kind: type[Kind]) -> Callable[[Text], Kind]:
    """A reader of such messages: strict, and by field where that fails. It raises what decoding
    raises.
    """
    strict, loose = msgspec.json.Decoder(kind).decode, by_field(kind)

    def read(said: Text) -> Kind:
        try:
            return strict(said)
        except msgspec.ValidationError:
            return loose(said)

    return read


def by_field(kind: type[Kind]) -> Callable[[Text], Kind]:
    """A reader of such messages that reads each field for itself."""
    fields = [
        (field.name, field.encode_name, field.required, _reader(field.type))
        for field in msgspec.structs.fields(kind)
    ]

    def read(said: Text) -> Kind:
        told, values = _fields(said), dict[str, Any]()
        for name, key, required, field in fields:
            if key not in told:
                if required:
                    raise msgspec.ValidationError(f"it has no `{key}`")
                continue
            try:
                values[name] = field(told[key])
            except msgspec.ValidationError as error:
                if required:
                    raise msgspec.ValidationError(f"{error} - in `{key}`") from error
        return kind(**values)

    return read


def _reader(kind: Any) -> Callable[[msgspec.Raw], Any]:
    strict = msgspec.json.Decoder(kind).decode
    otherwise: Callable[[Text], Any] | None = None
    for part in (kind, *get_args(kind)):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            otherwise = by_field(part)
        elif tuple in (get_origin(part), get_origin(getattr(part, "__origin__", None))):
            otherwise = _levels

    def read(said: msgspec.Raw) -> Any:
        try:
            return strict(said)
        except msgspec.ValidationError:
            if otherwise is not None:
                return otherwise(said)
            for spelling in _spellings(bytes(said)):
                try:
                    return strict(spelling)
                except msgspec.ValidationError:
                    continue
            raise

    return read


def _spellings(raw: bytes) -> Iterator[bytes]:
    """How else a number may be written: as a whole one, or as text."""
    is_text = raw.startswith(b'"')
    try:
        number = decimals.signed((raw[1:-1] if is_text else raw).decode("ascii", "replace"))
    except decimals.NotANumber:
        return
    whole, _, fraction = number.partition(".")
    if not fraction.strip("0"):
        yield whole.encode()
    if not is_text:
        yield b'"%b"' % raw


def read_pair(said: Text) -> tuple[str, str]:
    """The first two cells of a row, as text; it may grow. Raises what decoding raises."""
    return _pair(_row(said))


def _levels(said: Text) -> list[tuple[str, str]]:
    """Prices and quantities."""
    return [_pair(row) for row in _rows(said)]


def _pair(row: Sequence[msgspec.Raw]) -> tuple[str, str]:
    if row[1:]:
        return _word(row[0]), _word(row[1])
    raise msgspec.ValidationError("a row too short")


def _word(said: msgspec.Raw) -> str:
    raw = bytes(said)
    return raw.decode() if raw[:1].isdigit() else _text(raw)
