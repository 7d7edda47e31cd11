"""The names of GPUs as users, drivers and clusters write them."""

import re
from collections.abc import Iterable

VENDORS = ("nvidia", "amd", "geforce", "tesla", "instinct")
# Words that tell variants of one GPU apart, and no other GPU.
VARIANT = re.compile(r"\d{2,3}(g|gb|gib)?|sxm\d*|pcie|nvl\d*|oam|hbm\d*e?|hgx|dgx")


def plain_device(name: str) -> str:
    """Return the letters and digits of a name in lower case, without the vendor: ``a100sxm440gb``."""
    return "".join(_words(name))


def same_gpu(name: str, valid: Iterable[str]) -> str:
    """Return what to write instead of an unknown name: the variants of the same GPU, or else every valid name.

    A GPU with a similar name is another GPU, so that none is ever suggested: an A10G is no A100.
    """
    choices, gpu = list(valid), _gpu(name)
    own = [choice for choice in choices if gpu and _gpu(choice) == gpu]
    if own:
        return f"of this GPU it has: {', '.join(own)}"
    return f"valid: {', '.join(choices)}, or a YAML file that describes your own (e.g. my_gpu.yaml)"


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word and word not in VENDORS]


def _gpu(name: str) -> set[str]:
    """The words that name the GPU, without those that name a variant of it."""
    return {word for word in _words(name) if not VARIANT.fullmatch(word)} - {"rtx"}
