"""The limit of our control group, from files in the kernel's layout."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from marketprism.observe.cgroup import Limit, memory_limit

GIB = 2**30
NO_LIMIT_V1 = "9223372036854771712\n"
V1 = "9:name=systemd:/\n4:memory:/docker/abc\n2:cpuacct,cpu:/docker/abc\n0::/\n"
V2 = "0::/system.slice/collector.service\n"
GROUP = "sys/fs/cgroup/system.slice/collector.service/memory.max"
OLD = "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, Limit(None, "none")),
        # A container of its own: what is mounted is its group.
        ({"groups": "0::/\n", "sys/fs/cgroup/memory.max": f"{GIB}\n"}, Limit(GIB, "cgroup v2")),
        ({"groups": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, Limit(None, "none")),
        # The machine's own root has no such file.
        ({"groups": "0::/\n"}, Limit(None, "none")),
        # A service: its group, and its slice above it.
        ({"groups": V2, GROUP: f"{GIB}\n"}, Limit(GIB, "cgroup v2")),
        (
            {
                "groups": V2,
                GROUP: f"{2 * GIB}\n",
                "sys/fs/cgroup/system.slice/memory.max": f"{GIB}\n",
            },
            Limit(GIB, "cgroup v2"),
        ),
        (
            {"groups": V2, GROUP: "max\n", "sys/fs/cgroup/system.slice/memory.max": f"{GIB}\n"},
            Limit(GIB, "cgroup v2"),
        ),
        # Named as the host names it, or as outside of what we can see.
        ({"groups": V2, "sys/fs/cgroup/memory.max": f"{GIB}\n"}, Limit(GIB, "cgroup v2")),
        (
            {
                "groups": "0::/../../other\n",
                "sys/fs/cgroup/memory.max": f"{GIB}\n",
                "sys/other/memory.max": "7\n",
                "other/memory.max": "7\n",
            },
            Limit(GIB, "cgroup v2"),
        ),
        # The older kind, by the host's path or mounted as our own.
        (
            {"groups": V1, f"{OLD}/docker/abc/memory.limit_in_bytes": f"{GIB}\n"},
            Limit(GIB, "cgroup v1"),
        ),
        ({"groups": V1, f"{OLD}/memory.limit_in_bytes": f"{GIB}\n"}, Limit(GIB, "cgroup v1")),
        (
            {
                "groups": V1,
                f"{OLD}/docker/abc/memory.limit_in_bytes": NO_LIMIT_V1,
                f"{OLD}/memory.limit_in_bytes": NO_LIMIT_V1,
            },
            Limit(None, "none"),
        ),
        # Half moved over: the controller is still where v1 says.
        (
            {
                "groups": V1,
                f"{OLD}/docker/memory.limit_in_bytes": f"{GIB}\n",
                "sys/fs/cgroup/unified/memory.max": "7\n",
            },
            Limit(GIB, "cgroup v1"),
        ),
        # Nonsense is no limit.
        ({"groups": "0::/\n", "sys/fs/cgroup/memory.max": "0\n"}, Limit(None, "none")),
        ({"groups": "0::/\n", "sys/fs/cgroup/memory.max": "-5\n"}, Limit(None, "none")),
        ({"groups": "0::/\n", "sys/fs/cgroup/memory.max": "५\n"}, Limit(None, "none")),
        ({"groups": "nonsense\n:\n\n", "sys/fs/cgroup/memory.max": "9\n"}, Limit(None, "none")),
    ],
)
def test_the_least_limit_of_the_group_and_its_parents_counts(
    files: Mapping[str, str], found: Limit, tmp_path: Path
) -> None:
    """Wherever container, service or machine have it; without one that is said."""
    for name, text in files.items():
        file = tmp_path / ("proc/self/cgroup" if name == "groups" else name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert memory_limit(tmp_path) == found


def test_a_file_that_cannot_be_read_is_no_limit(tmp_path: Path) -> None:
    """A directory in its place, as a stand-in for whatever the system refuses."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup/memory.max").mkdir(parents=True)
    assert memory_limit(tmp_path) == Limit(None, "none")


def test_this_machine_can_be_asked() -> None:
    """Whatever it says, it is a usable answer."""
    limit = memory_limit()
    assert limit.source in ("cgroup v1", "cgroup v2", "none")
    assert (limit.size is None) is (limit.source == "none")
