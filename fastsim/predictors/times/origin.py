"""The measured GPU from which the times of a device come: its own, or the nearest where it was never measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from fastsim.catalog.hardware import Device
from fastsim.catalog.load import load_device, names
from fastsim.predictors.forests import forest

Kinship = Literal["own", "architecture", "other"]
FAMILIES_OF_CHIPS = 10  # from this major version of the compute capability on, its minor versions run the same kernels
TRIED = 1.5  # how far figures were apart on the pairs of one architecture whose error is known
SAME = 1.02  # how far the figures of one GPU may be apart in two sources


@dataclass(frozen=True, slots=True)
class Origin:
    """The measured system that a device's times come from.

    ``device`` is the catalog's name of its GPU. ``kinship`` says how near it is: the device's ``own`` system, one of
    the same ``architecture``, or any ``other``.
    """

    system: str
    device: str
    kinship: Kinship


def origin_of(device: Device, without: Sequence[str] = ()) -> Origin:
    """The system that has the device's own times, or else the nearest one.

    The nearest has the same compute capability, or else an architecture of the same name and major version, or else
    it is also a chip for data centres, or for graphics. Of several, the nearest version counts, then bandwidth and
    FLOP/s, which alone decide for other vendors. A file may also name the system whose forests a GPU shares: its own
    times they are only with the same figures. ``without``: systems that are left out, to see how well the others
    stand in for them.
    """
    measured = [one for one in _measured() if one.predictor not in without]
    shared = [one for one in measured if one.predictor == device.predictor]
    nearest = min(shared or measured, key=lambda one: _distance(device, one))
    pairs = zip(_figures(device), _figures(nearest), strict=True)
    apart = max(max(one / other, other / one) for one, other in pairs)
    kinship: Kinship = "other"
    if shared and apart <= SAME:
        kinship = "own"
    elif apart <= TRIED and (shared or _family(device) == _family(nearest)):
        kinship = "architecture"
    return Origin(str(nearest.predictor), nearest.name, kinship)


def _figures(device: Device) -> tuple[float, float, int]:
    return device.bandwidth_gb_s, device.tflops["bf16"], device.num_sms


@cache
def _measured() -> list[Device]:
    systems = forest.systems()
    return [one for one in map(load_device, names("devices")) if one.predictor in systems]


def _capability(device: Device) -> tuple[int, int] | None:
    major, _, minor = (device.compute_capability or "").partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _family(device: Device) -> tuple[int, int] | None:
    """Devices of one family run the same kernels."""
    version = _capability(device)
    return (version[0], 0) if version and version[0] >= FAMILIES_OF_CHIPS else version


def _distance(device: Device, other: Device) -> tuple[bool, bool, bool, float, float]:
    figures = abs(math.log(device.bandwidth_gb_s / other.bandwidth_gb_s))
    figures += abs(math.log(device.tflops["bf16"] / other.tflops["bf16"]))
    one, two = _family(device), _family(other)
    if one is None or two is None:
        return True, True, True, 0.0, figures
    named = device.architecture == other.architecture and one[0] == two[0]
    versions = abs(one[0] - two[0] + (one[1] - two[1]) / 10)
    return one != two, not named, _graphics(one) != _graphics(two), versions, figures


def _graphics(version: tuple[int, int]) -> bool:
    """Whether a chip was made for graphics: 7.5, 8.6, 8.9 and 12.x; data centres have 7.0, 8.0, 9.0 and 10.x."""
    return version[1] > 0 or version[0] >= 12
