"""What is checked, and how: `nox` runs the tests, the linter and the type checker."""

import shutil
import subprocess
import sys

import nox
import nox.command

nox.options.sessions = ["tests", "simulation", "lint", "types"]
nox.options.error_on_missing_interpreters = True

SUPPORTED = ("3.11", "3.12", "3.13")
FAILED_TESTS = "Returned code 1"
"""What nox says where pytest ran to its end, and tests failed."""


def _works(version: str) -> bool:
    """Whether that Python runs: a shim which only says that it cannot is none."""
    executable = shutil.which(f"python{version}")
    if executable is None:
        return False
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    try:
        told = subprocess.run(
            [executable, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return told.returncode == 0 and told.stdout.strip() == version


PYTHONS = [version for version in SUPPORTED if _works(version)]
absent = [version for version in SUPPORTED if version not in PYTHONS]
if not PYTHONS:
    sys.exit(f"none of Python {', '.join(SUPPORTED)} was found")
print(
    f"Python tested: {', '.join(PYTHONS)}"
    + (f"; not found: {', '.join(absent)}" if absent else ""),
    file=sys.stderr,
)


def _install(session: nox.Session, *groups: str) -> None:
    project = nox.project.load_toml("pyproject.toml")
    session.install(*nox.project.dependency_groups(project, *groups))
    # Else each worker compiles all tests, and each process the source.
    session.env["PYTHONDONTWRITEBYTECODE"] = ""


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, seven at a time, for most of them wait, and one after the other, for some wait
    long. What follows `--` goes to pytest.

    Those marked `once` are long and run on the oldest Python alone: their time is that of the
    faults in them. The simulation has a session of its own.
    """
    _install(session, "test")
    session.install("-e", ".")
    oldest = session.python == PYTHONS[0]
    chosen = () if oldest else ("-m", "not once")
    # What is not long waits for nothing either.
    workers = "7" if oldest else "4"
    spread = ("-n", workers, "--maxschedchunk", "1", "--ignore=tests/simulation")
    # Of properties a few examples each, where all have been tried on the oldest.
    session.env["MARKETPRISM_AGAIN"] = "" if oldest else "1"
    # Compiled by one, for seven.
    session.run("pytest", "--collect-only", "-qq", silent=True)
    try:
        session.run("pytest", *spread, *chosen, *session.posargs)
    except nox.command.CommandFailed as failure:
        if str(failure.reason) != FAILED_TESTS:
            raise
        session.warn("what failed is tried once more, without the crowd: a fault fails twice")
        session.run("pytest", "--last-failed", "--ignore=tests/simulation", *session.posargs)


@nox.session(python=PYTHONS[0])
def lint(session: nox.Session) -> None:
    """The style of every file."""
    _install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session(python=PYTHONS[0])
def types(session: nox.Session) -> None:
    """The types of every file, seen from the oldest Python supported."""
    _install(session, "types")
    session.install("-e", ".")
    session.run("mypy")


@nox.session(python=PYTHONS[0])
def mutations(session: nox.Session) -> None:
    """Two hundred thousand mutated frames a venue; the tests feed a few thousand."""
    _install(session, "test")
    session.install("-e", ".")
    frames = {"MARKETPRISM_MUTATIONS": "200000"}
    session.run("pytest", "-s", "tests/test_mutations.py", *session.posargs, env=frames)


@nox.session(python=PYTHONS[0])
def simulation(session: nox.Session) -> None:
    """Simulated universes and what befalls them: `nox -s simulation -- --seeds 500`.

    By default 120 and more, on all cores; `-- -k one_seed --seed 7` is one of them again.
    """
    _install(session, "test")
    session.install("-e", ".")
    # One test may have many universes: it does not hang.
    spread = ("-n", "auto", "--dist", "worksteal", "-o", "faulthandler_timeout=0")
    session.run("pytest", *spread, "tests/simulation", *session.posargs)


@nox.session(python=PYTHONS[0])
def faults(session: nox.Session) -> None:
    """The long forms of what befalls NATS and the process: 100,000 messages and three SIGKILLs,
    half a minute's SIGSTOP, 40 s of outage, fifty SIGTERMs, twenty SIGKILLs of the collector, seven
    days in virtual time.
    """
    _install(session, "test")
    session.install("-e", ".")
    chosen = session.posargs or (
        "tests/feeds/test_audit.py",
        "tests/feeds/test_feed.py",
        "tests/feeds/test_neighbours.py",
        "tests/outbox/test_history.py",
        "tests/outbox/test_salvage.py",
        "tests/outbox/test_spool.py",
        "tests/outbox/test_spooler.py",
        "tests/resume/test_dedupe.py",
        "tests/simulation/test_long_run.py",
        "tests/sinks/test_nats_faults.py",
        "tests/test_endings.py",
        "tests/test_exchange_faults.py",
        "tests/test_http_attacks.py",
        "tests/test_killed.py",
        "tests/test_market_changes.py",
        "tests/test_memory_shed.py",
        "tests/test_refusals.py",
        "tests/test_sabotage.py",
        "tests/test_secrets.py",
        "tests/test_signals.py",
        "tests/test_sink_troubles.py",
        "tests/test_spooled.py",
    )
    patient = ("-s", "-o", "faulthandler_timeout=0")
    session.run("pytest", *patient, *chosen, env={"MARKETPRISM_LONG": "1"})


@nox.session(python=PYTHONS[0])
def soak(session: nox.Session) -> None:
    """Half an hour at 2,000 messages a second with a fault a minute; `-- 7200` for two hours."""
    _install(session, "test")
    session.install("-e", ".")
    seconds = session.posargs[0] if session.posargs else "1800"
    lasting = {"MARKETPRISM_SOAK_SECONDS": seconds}
    patient = ("-s", "-o", "faulthandler_timeout=0")
    session.run("pytest", *patient, "tests/test_soak.py", env=lasting)
