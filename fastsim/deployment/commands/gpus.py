"""The GPU that a label of a Kubernetes node names, by its name in the catalog."""

import re

from fastsim.catalog.load import load_device
from fastsim.errors import CatalogError, ConfigError
from fastsim.files.documents import short

# Types of instances, and labels of clouds that leave out the memory.
PRODUCTS = {
    "p4d.24xlarge": "a100_40gb",
    "p4de.24xlarge": "a100",
    "p5.4xlarge": "h100",
    "p5.48xlarge": "h100",
    "p5e.48xlarge": "h200",
    "p5en.48xlarge": "h200",
    "p6_b200.48xlarge": "b200",
    "tesla_a100": "a100_40gb",
    "h100_mega_80gb": "h100",
    "standard_nd96asr_v4": "a100_40gb",
}
AZURE = re.compile(r"standard_(n[cd])\d+[a-z]*_(h100|h200|a100|mi300x)_v\d")
OF_AZURE = {"nch100": "h100_nvl", "nca100": "a100_pcie"}  # the others are SXM modules
FAMILIES = {"g4dn": "t4", "g5": "a10g", "g6": "l4", "g6e": "l40s", "a2_highgpu": "a100_40gb", "a2_ultragpu": "a100"}
FAMILIES |= {"a3_highgpu": "h100", "a3_megagpu": "h100", "a3_ultragpu": "h200", "g2_standard": "l4"}


def product(label: str) -> str:
    """The device of the catalog that ``label`` names. Raises ConfigError if the catalog lacks it."""
    plain = re.sub(r"[\s-]+", "_", label.strip().lower()).removesuffix("_shared").removesuffix("_mig")
    short_name = plain.removeprefix("nvidia_")
    family = FAMILIES.get(plain.partition(".")[0]) or FAMILIES.get(plain.rpartition("_")[0])
    azure = AZURE.fullmatch(plain)
    if azure is not None:
        family = OF_AZURE.get(azure[1] + azure[2], azure[2])
    for name in (PRODUCTS.get(short_name), plain, short_name, family):
        try:
            return load_device(name).name if name and not name.endswith((".yaml", ".yml")) else _missing()
        except CatalogError:
            continue
    raise ConfigError(f"the label of the GPU, {short(label)}, names no device of the catalog; name one with --gpu")


def _missing() -> str:
    raise CatalogError("no name")
