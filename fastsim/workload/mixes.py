"""Mixes of presets: ``chat=70,code=30`` sends 70 % of the requests as one preset, and 30 % as the other."""

import re
from typing import Any

from fastsim.errors import ConfigError, did_you_mean
from fastsim.workload.presets import preset_file, presets

MIX = re.compile(r"[a-z]+=[^,=]*(,[a-z]+=[^,=]*)*")
KEPT = ("lengths", "prefix", "sessions", "max_tokens")  # of the description of a preset
RATE = 2.0  # requests/s of a mix of which no rate is given


def is_mix(name: str) -> bool:
    """Whether a name is that of a mix of presets."""
    return MIX.fullmatch(name) is not None


def mix(name: str) -> dict[str, Any]:
    """The description of a mix: a tenant for each preset, whose shares are in proportion to each other.

    Raises ConfigError for a preset that is unknown or given twice, and for a share that is no number from 0 up.
    """
    from fastsim.files.documents import read

    tenants: dict[str, dict[str, Any]] = {}
    for part in name.split(","):
        preset, _, text = part.partition("=")
        if preset not in presets():
            raise ConfigError(f"{name}: no preset {preset!r}; {did_you_mean(preset, presets())}")
        if preset in tenants:
            raise ConfigError(f"{name}: {preset} is given twice; name each preset once (e.g. chat=70,code=30)")
        if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) or float(text) > 1e9:
            raise ConfigError(f"{name}: the share {text!r} of {preset} is not a number from 0 to 1e9 (e.g. 70)")
        values = read(preset_file(preset)).values
        kept = {key: values[key] for key in KEPT if key in values}
        tenants[preset] = {"name": preset, "share": float(text), **kept}
    if not any(tenant["share"] for tenant in tenants.values()):
        raise ConfigError(f"{name}: all shares are 0 (e.g. chat=70,code=30)")
    return {"tenants": [*tenants.values()], "gaps": {"kind": "poisson", "rate": RATE}}
