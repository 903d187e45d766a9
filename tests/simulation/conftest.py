"""What a run of the simulation tells at its end, whichever processes its tests ran in."""

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from tally import Tally

LIVED, SAID = "lived", "said"
"""Properties of a test, which come with its report from wherever it ran."""


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """Counts the universes of a test."""
    tally = Tally()
    yield tally
    request.node.user_properties.append((LIVED, attrs.asdict(tally)))


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """A line for the end of the run."""
    return lambda line: request.node.user_properties.append((SAID, line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many universes, how long, what happened in them; and what else was said."""
    found: list[tuple[str, Any]] = [
        (name, value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
        for name, value in report.user_properties
    ]
    if not found:
        return
    terminalreporter.write_sep("-", "simulation")
    terminalreporter.write_line(str(Tally.of(value for name, value in found if name == LIVED)))
    for name, value in found:
        if name == SAID:
            terminalreporter.write_line(value)
