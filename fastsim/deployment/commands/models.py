"""The model that a command names, as the catalog knows it."""

from fastsim.catalog.load import checkpoints, load_model, spellings
from fastsim.catalog.names import same_shape
from fastsim.deployment.commands.command import Flags
from fastsim.deployment.commands.shell import EXAMPLE
from fastsim.errors import CatalogError, ConfigError, InputError


def known_as(name: str, given: Flags, notes: list[str]) -> tuple[str, str | None]:
    """The name or path under which a model is known here, and the precision that its own name adds to that.

    Raises CatalogError, which says how to name another.
    """
    if not name:
        raise ConfigError(f"the command names no model ({EXAMPLE})")
    places = [name, name.rstrip("/").rpartition("/")[2]]
    if "hf_config_path" in given.given:
        places.insert(0, str(given.given["hf_config_path"].value))
    if "served_model_name" in given.given:  # of a model in a folder of the container
        served = given.given["served_model_name"].value
        places += map(str, served if isinstance(served, list) else [served])
    known = spellings("models") | {hub: hub for hub in checkpoints()}
    for place in places:
        if _is_known(place):
            if place == name:
                return name, None
            entry = known.get(load_model(place).name, place)
            notes.append(f"{name}: taken as {entry}")
            return entry, None
    if similar := same_shape(name.rstrip("/"), known):
        entry, stored = similar
        said = f" with quantization {stored}; its config.json says what it leaves in 16 bits" if stored else ""
        notes.append(f"{name}: taken as {entry}{said}")
        return similar
    try:
        load_model(name)
    except CatalogError as problem:
        raise CatalogError(f"{problem}; name the path of its config.json with --set model=PATH") from None
    return name, None


def _is_known(name: str) -> bool:
    try:
        load_model(name)
    except InputError:
        return False
    return True
