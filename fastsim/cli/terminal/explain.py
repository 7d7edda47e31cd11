"""Print one iteration by operator."""

from typing import TYPE_CHECKING, Any

from fastsim.cli.terminal.console import note, of_pool, print_json, share, stdout, table

if TYPE_CHECKING:
    from rich.text import Text

COLOURS = {"measured": "", "outside": "green", "modelled": "cyan", "given": ""}


def show(explained: dict[str, Any], as_json: bool) -> None:
    """Print the operators of an iteration as a table or as JSON; of an iteration of each pool."""
    if as_json:
        print_json(explained)
        return
    for number, each in enumerate(explained.get("pools", [explained])):
        if number:
            stdout().print()
        _show(each)


def _show(explained: dict[str, Any]) -> None:
    console = stdout()
    for warning in explained["warnings"]:
        note(warning)
    console.print(_title(explained))
    heads = ("operator", "runs", "precision", "shape", "GFLOP", "MB", "ms", "90 % interval", "share", "source")
    operators = table(heads, left=("operator", "precision", "shape", "source"))
    for row in explained["operators"]:
        operators.add_row(*_cells(row))
    console.print(operators)
    low, high = explained["interval_ms"]
    sources = ", ".join(f"{share(part, 1)} {how}" for how, part in explained["shares"].items() if part)
    console.print(f"\nTotal {explained['total_ms']:.3f} ms ({low:.3f} to {high:.3f}); {sources}")


def _title(explained: dict[str, Any]) -> str:
    """The deployment and the batch, in a line."""
    deployment, iteration = explained["deployment"], explained["iteration"]
    chunks = [f"a chunk of {tokens} tokens after {before} cached tokens" for tokens, before in iteration["chunks"]]
    decodes = [f"{number} decodes with {kv} cached tokens each" for number, kv in iteration["decodes"]]
    # Router, LM head and the up-projection of a latent KV cache are in 16 bits in most checkpoints.
    wide = ("moe_router", "lm_head", "attn_kv_up_proj")
    used = {row["precision"] for row in explained["operators"] if row["precision"] and row["name"] not in wide}
    mostly = "mostly " if len(used) > 1 else ""
    precision = "" if deployment["quantization"] == "none" else f" {mostly}in {deployment['quantization']}"
    pool = f"{of_pool(explained)}: " if "role" in explained else ""
    return (
        f"{pool}{deployment['model']}{precision} on {deployment['device']}, TP {deployment['tensor_parallel_size']}, "
        f"PP {deployment['pipeline_parallel_size']}: {', '.join(chunks + decodes)}\n"
    )


def _cells(row: dict[str, Any]) -> "list[str | Text]":
    """The cells of an operator: work in GFLOP and MB, times in ms."""
    from rich.text import Text

    shape = " ".join(f"{name}={size}" for name, size in row["shape"].items())
    interval = f"{row['low_ms']:.4f} to {row['high_ms']:.4f}"
    work = [f"{row['gflop']:.2f}" if row["gflop"] else "", f"{row['mb']:.2f}" if row["mb"] else ""]
    how = Text(row["how"], COLOURS[row["how"]])
    what = [row["name"], str(row["count"]), row["precision"] or "", shape]
    return [*what, *work, f"{row['ms']:.4f}", interval, share(row["share"], 1), how]
