"""What was measured on, and how fast and how warm it was meanwhile."""

import atexit
import os
import platform
import subprocess
import threading
import time
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")  # newer drivers' name, older drivers'
INTERVAL_MS = 50
OLD_S = 1.0  # the loop of nvidia-smi has stopped, or keeps its lines to itself
IDLE, POWER = 0x1, 0x4
# Slowed by the hardware, for heat or for a failing supply: hw_slowdown, sw_thermal, hw_thermal, power_brake.
SLOWED = 0x8 | 0x20 | 0x40 | 0x80
DROP = 0.9  # a clock over the fastest before it in one measurement, below which it has been throttled


class Reading(NamedTuple):
    """Clock in MHz, Celsius, nvidia-smi's bits of why the clock is not higher; nan or 0 if unknown."""

    clock_mhz: float
    temperature_c: float
    reasons: int


def parsed(line: str) -> Reading | None:
    """One line that nvidia-smi prints for a Watch; None where it is no reading."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 3:
        return None

    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:  # [N/A], as on a part of a GPU
            return float("nan")

    try:
        reasons = int(fields[2], 16)
    except ValueError:
        reasons = 0
    return Reading(number(fields[0]), number(fields[1]), reasons)


def judge(readings: Sequence[Reading]) -> list[str]:
    """``throttled`` by heat or hardware, or by a drop of the clock that nothing explains; ``power``: by its limit.

    The power limit slows a serving GPU as well, so that such times are no errors.
    """
    busy = [reading for reading in readings if not reading.reasons & IDLE]
    reasons = 0
    for reading in busy:
        reasons |= reading.reasons
    flags = ["power"] if reasons & POWER else []
    clocks = [reading.clock_mhz for reading in busy if reading.clock_mhz > 0]
    fastest = list(accumulate(clocks, max))  # so far: a clock that rises from idling has not dropped
    dropped = not flags and any(now < DROP * before for now, before in zip(clocks, fastest, strict=True))
    return ["throttled", *flags] if reasons & SLOWED or dropped else flags


def smi_id(device: str) -> str:
    """How nvidia-smi calls a CUDA device: by its UUID, since CUDA_VISIBLE_DEVICES renumbers them."""
    import torch

    index = torch.device(device).index
    uuid = str(getattr(torch.cuda.get_device_properties(index), "uuid", ""))
    if uuid:
        return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",")[index].strip() if visible else str(index)


class Watch:
    """Readings of a GPU, taken by one nvidia-smi that runs as long as this process."""

    def __init__(self, device: str) -> None:
        self._readings: list[tuple[float, Reading]] = []
        self._command: list[str] = []
        for reasons in REASONS:
            query = f"clocks.sm,temperature.gpu,{reasons}"
            command = ["nvidia-smi", f"--id={smi_id(device)}", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
            if self._once(command):
                self._command = command
                break
        else:
            return  # no nvidia-smi, or none that knows this GPU: times without clocks
        process = subprocess.Popen(
            [*command, f"--loop-ms={INTERVAL_MS}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        atexit.register(process.kill)
        threading.Thread(target=self._follow, args=(process,), daemon=True).start()

    def _once(self, command: list[str]) -> bool:
        """One reading more, if there is one to have."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return False
        reading = parsed(done.stdout)
        if reading:
            self._readings.append((time.perf_counter(), reading))
        return reading is not None

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        for line in process.stdout or ():
            reading = parsed(line)
            if reading:
                self._readings.append((time.perf_counter(), reading))
                del self._readings[:-2000]

    def since(self, start: float) -> list[Reading]:
        """Readings after ``start`` of time.perf_counter, or the last one; one of now if that is old."""
        if self._command and self._readings[-1][0] < min(start, time.perf_counter() - OLD_S):
            self._once(self._command)
        readings = list(self._readings)
        return [reading for at, reading in readings if at >= start] or [reading for _, reading in readings[-1:]]


class CpuWatch:
    """Readings of the CPU, one whenever they are asked for."""

    def since(self, start: float) -> list[Reading]:
        """The one of now."""
        del start
        return [cpu_reading()]


def cpu_reading() -> Reading:
    """The mean clock of all cores as Linux tells it, and the warmest zone."""
    nan = float("nan")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    clocks = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    degrees = []
    for path in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            degrees.append(float(path.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    return Reading(sum(clocks) / len(clocks) if clocks else nan, max(degrees, default=nan), 0)


@cache
def watch(device: str) -> Watch | CpuWatch:
    """The one that follows ``device``."""
    return Watch(device) if device.startswith("cuda") else CpuWatch()


def machine(device: str) -> dict[str, str | float]:
    """Device, driver, libraries, clocks and limits, by name: what a time depends on and a row cannot say."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    facts: dict[str, str | float] = {
        "device": device,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "system": platform.platform(),
        "processor": _processor(),
        "cpus": float(os.cpu_count() or 0),
        "threads": float(torch.get_num_threads()),
    }
    for package in ("triton", "flash-attn", "flash-attn-3", "flashinfer-python"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    if not device.startswith("cuda"):
        return facts | {"name": facts["processor"]}
    properties = torch.cuda.get_device_properties(device)
    facts |= {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "num_sms": float(properties.multi_processor_count),
        "l2_mb": round(float(getattr(properties, "L2_cache_size", 0)) / 1e6, 1),
        "gpus": float(torch.cuda.device_count()),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        facts["nccl"] = ".".join(str(part) for part in torch.cuda.nccl.version())
    return facts | _smi_facts(device)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _smi_facts(device: str) -> dict[str, str | float]:
    """Driver, limits and modes as nvidia-smi tells them; nothing without it."""
    names = {
        "driver_version": "driver",
        "power.limit": "power_limit_w",
        "clocks.max.sm": "max_clock_mhz",
        "clocks.max.memory": "max_memory_clock_mhz",
        "clocks.applications.graphics": "application_clock_mhz",
        "ecc.mode.current": "ecc",
        "mig.mode.current": "mig",
        "vbios_version": "vbios",
    }
    facts: dict[str, str | float] = {}
    for query, name in names.items():  # one by one: drivers differ in what they know
        command = ["nvidia-smi", f"--id={smi_id(device)}", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
        try:
            value = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            continue
        try:
            facts[name] = float(value)
        except ValueError:
            facts[name] = value
    return facts
