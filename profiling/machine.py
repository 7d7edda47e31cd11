"""The machine that measures: what it is, and its clock and temperature during a measurement."""

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

REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")  # as newer drivers call it, and older ones
INTERVAL_MS = 50
OLD_S = 1.0  # a reading older than this means that nvidia-smi has stopped, or that its output is stuck in a buffer
IDLE, POWER = 0x1, 0x4
# Slowed by heat or by a failing power supply: hw_slowdown, sw_thermal, hw_thermal, power_brake.
SLOWED = 0x8 | 0x20 | 0x40 | 0x80
DROP = 0.9  # of the highest clock so far in a measurement: a clock below that counts as throttled


class Reading(NamedTuple):
    """Clock (MHz), temperature (degrees Celsius), nvidia-smi's bits of what limits the clock; nan or 0 if unknown."""

    clock_mhz: float
    temperature_c: float
    reasons: int


def parsed(line: str) -> Reading | None:
    """Parse a line that nvidia-smi prints for a Watch; None if it is not a reading."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 3:
        return None

    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:  # [N/A], as a part of a GPU (MIG) reports
            return float("nan")

    try:
        reasons = int(fields[2], 16)
    except ValueError:
        reasons = 0
    return Reading(number(fields[0]), number(fields[1]), reasons)


def judge(readings: Sequence[Reading]) -> list[str]:
    """Return the flags of a measurement: ``throttled`` by heat, by hardware or for no known reason; ``power``.

    ``power`` says that the power limit lowered the clock. It does so while serving as well, so the time is right.
    """
    busy = [reading for reading in readings if not reading.reasons & IDLE]
    reasons = 0
    for reading in busy:
        reasons |= reading.reasons
    flags = ["power"] if reasons & POWER else []
    clocks = [reading.clock_mhz for reading in busy if reading.clock_mhz > 0]
    fastest = list(accumulate(clocks, max))  # up to each reading: a clock that still rises after idling has not dropped
    dropped = not flags and any(now < DROP * before for now, before in zip(clocks, fastest, strict=True))
    return ["throttled", *flags] if reasons & SLOWED or dropped else flags


def smi_id(device: str) -> str:
    """Return nvidia-smi's id of a CUDA device: its UUID, because CUDA_VISIBLE_DEVICES changes the numbers."""
    import torch

    index = torch.device(device).index
    uuid = str(getattr(torch.cuda.get_device_properties(index), "uuid", ""))
    if uuid:
        return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",")[index].strip() if visible else str(index)


class Watch:
    """Readings of a GPU from one nvidia-smi, which runs as long as this process."""

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
            return  # without an nvidia-smi that knows this GPU, times have no clocks
        process = subprocess.Popen(
            [*command, f"--loop-ms={INTERVAL_MS}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        atexit.register(process.kill)
        threading.Thread(target=self._follow, args=(process,), daemon=True).start()

    def _once(self, command: list[str]) -> bool:
        """Take one reading; return whether there was one."""
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
        """Return the readings since ``start`` (time.perf_counter), or the last one; if that is old, take a new one."""
        if self._command and self._readings[-1][0] < min(start, time.perf_counter() - OLD_S):
            self._once(self._command)
        readings = list(self._readings)
        return [reading for at, reading in readings if at >= start] or [reading for _, reading in readings[-1:]]


class CpuWatch:
    """Readings of the CPU, taken when they are asked for."""

    def since(self, start: float) -> list[Reading]:
        """Return one reading, taken now."""
        del start
        return [cpu_reading()]


def cpu_reading() -> Reading:
    """Return the mean clock of all cores, and the temperature of the warmest zone, as Linux reports them."""
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
    """Return the watch of ``device``; there is one per device."""
    return Watch(device) if device.startswith("cuda") else CpuWatch()


def machine(device: str) -> dict[str, str | float]:
    """Return device, driver, libraries, clocks and limits by name: what times depend on besides the case."""
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
    """Return driver, limits and modes as nvidia-smi reports them; empty without nvidia-smi."""
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
    for query, name in names.items():  # one query each, as a driver that lacks a field rejects the whole query
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
