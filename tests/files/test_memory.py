"""Memory that is free, from the files of a machine, and what needs more of it."""

from pathlib import Path

import pytest

from fastsim.errors import TooLargeError
from fastsim.files import memory
from fastsim.files.memory import check_memory, free_memory

MACHINE = {"proc/meminfo": "MemTotal:       16000 kB\nMemAvailable:    9000 kB\n"}
# Of 6 MB, 5 MB are used, of which 2 MB are files that the system can drop.
VERSION_2 = {
    "proc/self/cgroup": "0::/user/job\n",
    "sys/fs/cgroup/user/memory.max": "6000000\n",
    "sys/fs/cgroup/user/memory.current": "5000000\n",
    "sys/fs/cgroup/user/memory.stat": "anon 3000000\ninactive_file 2000000\n",
    "sys/fs/cgroup/user/job/memory.max": "max\n",
    "sys/fs/cgroup/user/job/memory.current": "4000000\n",
    "sys/fs/cgroup/user/job/memory.stat": "anon 3000000\ninactive_file 1000000\n",
}
# In a container: the group that the host has is not there.
VERSION_1 = {
    "proc/self/cgroup": "5:cpu:/docker/0123\n4:memory:/docker/0123\n0::/docker/0123\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "6000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "5000000\n",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 2500000\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MACHINE, 9000 * 1024),
        (VERSION_2, 3_000_000),
        (MACHINE | VERSION_2, 3_000_000),
        (MACHINE | VERSION_1, 3_500_000),
        (MACHINE | VERSION_1 | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, 9000 * 1024),
        (MACHINE | VERSION_1 | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000"}, 0),
        (MACHINE | {"proc/self/cgroup": "odd\n"}, 9000 * 1024),
        ({"proc/meminfo": "MemTotal: 16000 kB\n"}, None),
    ],
)
def test_free_memory(tmp_path: Path, files: dict[str, str], free: int | None) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert free_memory(tmp_path) == free


def test_what_needs_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 3 * 2**30 // 2)
    check_memory(2**20, "a.csv: requests", 1024)
    check_memory(2**20, "a.csv: requests", 2048, held=2**29)
    said = r"^a.csv: requests need about 2 GiB of memory, and 1.5 GiB are free for them; at most 780,000 fit$"
    with pytest.raises(TooLargeError, match=said):
        check_memory(2**20, "a.csv: requests", 2048)
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    check_memory(2**60, "a.csv: requests", 2048)
