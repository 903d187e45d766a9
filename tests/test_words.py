"""The words of the trade: what has a name that everybody knows is not called otherwise."""

import ast
from collections.abc import Iterator
from pathlib import Path

import marketprism

ROOT = Path(marketprism.__file__).parent

SAID_OTHERWISE = {
    "Manners": "Limits",
    "Moment": "Timestamp",
    "Offer": "Capability",
    "Turn": "Output",
    "Want": "Subscription",
    "World": "Services",
    "Loss": "PendingGap",
    "Losses": "Damage",
    "Dropped": "PendingGap",
    "adopt": "take_over",
    "inherit": "old_gone",
    "elder": "old",
    "younger": "new",
    "forgo": "drop_buffers",
    "restate": "send_snapshot",
    "heals": "heals_gap",
    "confess": "tell_gaps",
    "hear": "on_event",
    "unplaced": "gap_pending",
    "settling": "dedupe",
    "thinning": "sampling",
    "conclusions": "nats_errors",
    "holdings": "memory_report",
    "absent": "unread",
    "moving": "spooler",
    "spooling": "spooler",
    "marks": "watermarks",
    "Moving": "Transfer",
    "Spooling": "Spooler",
    "identity": "peek",
}
"""Names that were here once, and what they mean."""

SAID_OTHERWISE_IN = {
    ("feeds", "release"): "hand_over",
    ("feeds", "chance"): "jitter",
    ("feeds", "Step"): "Action",
    ("feeds/okx", "held"): "shadow_book",
    ("pipeline/outlet.py", "spare"): "conflate",
    ("resume/positions.py", "ahead"): "gaps_first",
    ("resume/positions.py", "late"): "position_unknown",
    ("board", "status"): "board",
}
"""Ordinary words elsewhere."""


def names(path: Path) -> Iterator[str]:
    """What a file calls its classes, functions and attributes, and itself."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.AsyncFunctionDef(name=name) | ast.Attribute(attr=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]) if name[0].isupper():
                yield name


def test_nothing_has_a_name_of_its_own_where_the_field_has_one() -> None:
    """As a class, a function, an attribute or a file."""
    said = []
    for path in ROOT.rglob("*.py"):
        place = path.relative_to(ROOT).as_posix()
        for name in {each.lstrip("_") for each in names(path)}:
            if name in SAID_OTHERWISE:
                said.append(f"{place}: {name} is {SAID_OTHERWISE[name]}")
            said += [
                f"{place}: {name} is {right}"
                for (room, wrong), right in SAID_OTHERWISE_IN.items()
                if name == wrong and place.startswith(room)
            ]
    assert sorted(said) == []
