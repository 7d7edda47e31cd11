"""How much memory is free, by the files in which Linux tells it; other systems have none, and nothing is checked."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fastsim.errors import TooLargeError

UNCHECKED = 2**28  # bytes: less than this is taken to be free
# By version of control groups: the folder in sys/fs/cgroup, the files of a group, and a counter in memory.stat.
VERSION_1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = ("", "memory.max", "memory.current", "inactive_file")


def check_memory(number: int, things: str, bytes_each: int, held: int = 0) -> None:
    """Raise TooLargeError if ``number`` of ``things``, each of which takes ``bytes_each``, need more than is free.

    ``held``: bytes of this that they have taken already.
    """
    needed = number * bytes_each
    free = free_memory() if needed >= UNCHECKED else None
    if free is None or needed <= free + held:
        return
    most = (free + held) // bytes_each
    most -= most % 10 ** max(0, len(str(most)) - 2)
    raise TooLargeError(
        f"{things} need about {_gib(needed)} of memory, and {_gib(free + held)} are free for them; at most {most:,} fit"
    )


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still take, within the limits of its control groups; None if nothing tells.

    ``root``: the folder that holds ``proc`` and ``sys``.
    """
    found = [*_of_the_machine(root / "proc/meminfo"), *_of_groups(root)]
    return max(0, min(found)) if found else None


def _of_the_machine(file: Path) -> Iterator[int]:
    with suppress(OSError, ValueError):
        figures = dict(line.split(":", 1) for line in file.read_text().splitlines())
        if "MemAvailable" in figures:
            yield 1024 * int(figures["MemAvailable"].split()[0])


def _of_groups(root: Path) -> Iterator[int]:
    """What is left of the limits of this process's control groups, and of the groups that these are in.

    Inside a container the path of the group may be the one outside of it; its own group is then at the root.
    """
    groups = []
    with suppress(OSError, ValueError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        groups = [(controllers, path) for _, controllers, path in (line.split(":", 2) for line in lines)]
    for controllers, path in groups:
        if controllers and "memory" not in controllers.split(","):
            continue
        folder, limit, usage, reclaimable = VERSION_1 if controllers else VERSION_2
        top = root / "sys/fs/cgroup" / folder
        group = top / path.lstrip("/")
        for each in (group, *group.parents):
            if each.is_relative_to(top):
                with suppress(OSError, ValueError):  # "max" is no limit
                    cached = dict(line.split() for line in (each / "memory.stat").read_text().splitlines())
                    used = int((each / usage).read_text()) - int(cached.get(reclaimable, 0))
                    yield int((each / limit).read_text()) - used


def _gib(number: float) -> str:
    return f"{number / 2**30:,.2g} GiB" if number < 10 * 2**30 else f"{number / 2**30:,.0f} GiB"
