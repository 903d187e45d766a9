"""Plain mappings into frozen attrs classes, with every problem named by its full key."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import attrs
from cattrs import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn

from marketprism.settings.nearest_names import suggestion

T = TypeVar("T")

Key = tuple[str | int, ...]
"""Where a value stands: names of keys, positions in lists."""
Problem = tuple[Key, str]
"""Where, and what is wrong there."""


def key_text(key: Key) -> str:
    """As people write it: `exchanges.binance_spot.symbols[0]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return "".join(parts).removeprefix(".")


def structure(value: object, wanted: type[T], at: Key = ()) -> tuple[T | None, list[Problem]]:
    """The value as an instance of the class, or None and all that is wrong with it."""
    try:
        return _converter.structure(value, wanted), []
    except BaseValidationError as error:
        return None, list(_problems(error, at))
    except ValueError as error:
        return None, [(at, str(error))]


def _problems(error: BaseException, at: Key) -> Iterator[Problem]:
    match error:
        case ClassValidationError() | IterableValidationError():
            noted, plain = error.group_exceptions()
            for inner, note in noted:
                yield from _problems(inner, (*at, *_step(note)))
            for inner in plain:
                yield from _problems(inner, at)
        case ForbiddenExtraKeysError(cl=owner, extra_fields=extra):
            known = [field.name for field in attrs.fields(owner)]
            for name in sorted(extra, key=str):
                yield (*at, str(name)), f"unknown key{suggestion(str(name), known)}"
        case KeyError(args=[str(missing)]):
            # cattrs notes the class's field, and the mapping lacks the key of the same name.
            yield (at if at[-1:] == (missing,) else (*at, missing)), "is missing"
        case ValueError():
            yield at, str(error)
        case _:
            raise error  # cattrs wraps our own mistakes too


def _step(note: object) -> Key:
    match note:
        case AttributeValidationNote(name=name):
            return (name,)
        case IterableValidationNote(index=index):
            return (index,)
        case _:
            return ()


def _section(owner: type[Any]) -> Callable[[object, object], Any]:
    """A class from a mapping; an empty section (null in YAML) is one of defaults only."""
    fill = make_dict_structure_fn(owner, _converter, _cattrs_forbid_extra_keys=True)

    def section(value: object, _type: object) -> Any:
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise ValueError("must be a section of keys")
        return fill(value, owner)

    return section


def _list(wanted: Any) -> Callable[[object, object], Any]:
    inner = _converter.get_structure_hook(list[get_args(wanted)[0]])  # type: ignore[misc]

    def items(value: object, _type: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list, as in [a, b]")
        found = tuple(inner(list(value), list[get_args(wanted)[0]]))  # type: ignore[misc]
        if len(set(found)) < len(found):
            raise ValueError("names something twice")
        return found

    return items


def one_of(value: object, known: Iterable[str]) -> str:
    """The value, where it is one of these words. Raises ValueError, in words for people."""
    names = list(known)
    if isinstance(value, str) and value in names:
        return value
    guess = suggestion(value, names) if isinstance(value, str) else ""
    raise ValueError(f"must be {' or '.join(names)}{guess}")


def _literal(value: object, wanted: Any) -> str:
    names = get_args(wanted)
    upper = isinstance(value, str) and all(name.isupper() for name in names)
    return one_of(value.upper() if upper and isinstance(value, str) else value, names)


def _member(value: object, wanted: type[StrEnum]) -> StrEnum:
    return wanted(one_of(value, [member.value for member in wanted]))


def _is(form: object) -> Callable[[Any], bool]:
    """Whether a type is such a form of another: `tuple[…]`, `Literal[…]`, `Annotated[…]`."""
    return lambda wanted: get_origin(wanted) is form


_converter = Converter(detailed_validation=True)
_converter.register_structure_hook_factory(attrs.has, _section)
_converter.register_structure_hook_factory(_is(tuple), _list)
_converter.register_structure_hook(StrEnum, _member)
_converter.register_structure_hook_func(_is(Literal), _literal)
# The settings say themselves how each of their values is read.
_converter.register_structure_hook_func(
    _is(Annotated), lambda value, wanted: wanted.__metadata__[0](value)
)
