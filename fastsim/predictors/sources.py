"""Where the operator times of a deployment come from: the forests of its device, and what provenance says of them."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastsim.errors import CatalogError

if TYPE_CHECKING:
    from fastsim.deployment.resolved import Resolved
    from fastsim.predictors.times.device_forests import Sources

CURVES = ("all_reduce", "elementwise", "gather_scatter", "moe_a2a", "send_recv")  # curves or figures, without a forest


def sources_of(resolved: "Resolved") -> "Sources":
    """The forests of a deployment's device.

    With source aic or profile:DIR they are trained on this machine, now if they are not there yet. A device that was
    not measured takes those of the nearest one that was. Raises CatalogError when the times of the model cannot be
    predicted.
    """
    if why := resolved.model.refused:
        raise CatalogError(
            f"model: {resolved.model.name} {why}, whose times are not known; `fastsim catalog model` answers its "
            "weights and KV cache (or bring its operator times as predictor.source=tables:DIR)"
        )
    from fastsim.predictors.times.device_forests import Sources
    from fastsim.predictors.times.origin import origin_of
    from fastsim.predictors.times.scaled import chip_of

    device, source = resolved.device, resolved.predictor.source
    origin, own = origin_of(device), None
    system = device.predictor or device.name
    if source != "default":
        from fastsim.predictors.forests.cache import root

        own = root(source, system, chip_of(device))
    return Sources(system, device, resolved.operators, origin, own, resolved.kernels)


def cards_of(sources: "Sources") -> dict[str, Any]:
    """Model cards of the forests that the operators need; the forests themselves are not loaded."""
    from fastsim.predictors.forests.forest import card, stem
    from fastsim.predictors.times.scaled import constants

    chosen = list(sources.chosen().values())
    cards = {stem(one.family, one.precision): card(one.system, one.family, one.precision, one.root) for one in chosen}
    cards |= {family: known for family in CURVES if (known := sources.card(family)) is not None}
    return cards if all(one.measured for one in chosen) else cards | {"scaling": constants()}


def provenance_of(sources: "Sources", cards: dict[str, Any]) -> dict[str, Any]:
    from fastsim.predictors.forests.forest import stem
    from fastsim.predictors.times.notes import notes_of

    forests = {
        operator: {key: card[key] for key in ("sha256", "error_percent", "source", "date") if key in card}
        for operator, card in cards.items()
        if "sha256" in card
    }
    chosen = sources.chosen().values()
    elsewhere = {stem(one.family, one.precision) for one in chosen if not one.measured}
    elsewhere |= {"scaling", *(family for family in CURVES if not sources.owns(family))}
    told: dict[str, Any] = {
        "forests": forests,
        "measured": sorted(set(cards) - elsewhere),
        "modelled": sources.modelled(),
    }
    if any(one.kinship != "own" for one in chosen):
        told["scaled_from"] = sources.origin.device
    if notes := notes_of(sources):
        told["notes"] = notes
    return told


def host_of(resolved: "Resolved") -> dict[str, Any]:
    """What a step takes beside its operators, and where that comes from; Vidur's composition has none."""
    if resolved.predictor.compose == "vidur":
        return {}
    known, found = resolved.engine_times, {"host": asdict(resolved.host_times)}
    if known is None:
        return found
    found["host"] |= {"source": known.sources["host"], "fitted_on": list(known.fitted_on)}
    if resolved.enforce_eager:
        found["eager"] = {"eager_us_per_kernel": known.eager_us_per_kernel, "source": known.sources["eager"]}
    if resolved.sampling == "top_k_top_p":
        names = ("sampler_ms", "sampler_us_per_sequence")
        found["sampler"] = {name: getattr(known, name) for name in names} | {"source": known.sources["sampler"]}
    return found
