"""Print what the memory of a deployment holds."""

from typing import Any

from fastsim.cli.terminal.console import note, of_pool, print_json, stdout, table


def show(accounts: dict[str, Any], as_json: bool) -> None:
    """Print the memory of one GPU of each stage, and the tokens of the KV cache, as text or as JSON; of each pool."""
    if as_json:
        print_json(accounts)
        return
    for number, account in enumerate(accounts.get("pools", [accounts])):
        if number:
            stdout().print()
        _show(account)


def _show(account: dict[str, Any]) -> None:
    for warning in account["warnings"]:
        note(warning)
    deployment, console = account["deployment"], stdout()
    pool = f"{of_pool(account)}: " if "role" in account else ""
    console.print(
        f"{pool}{deployment['model']} on {deployment['device']}, TP {deployment['tensor_parallel_size']}, "
        f"PP {deployment['pipeline_parallel_size']}: {account['usable_gib']:.2f} GiB of a GPU "
        f"({deployment['gpu_memory_utilization']:g} of {account['torch_gib']:g})\n"
    )
    parts = {"weights": "weights_gib", "to work in": "reserve_gib", "KV cache": "free_gib"}
    if any(stage["states_gib"] for stage in account["stages"]):
        parts["linear states"] = "states_gib"
    stages = table(("stage", "layers", *parts, "KV bytes of a token"))
    for number, stage in enumerate(account["stages"]):
        sizes = [f"{stage[name]:.2f} GiB" for name in parts.values()]
        stages.add_row(str(number), str(stage["layers"]), *sizes, f"{stage['kv_bytes_per_token']:,}")
    console.print(stages)
    blocks = f" ({account['num_blocks']:,} blocks of {account['block_size']})"
    beside = account["kv_tokens"] - account["num_blocks"] * account["block_size"]  # of vLLM's null block
    if beside not in (0, account["block_size"]):  # windows: see the note
        blocks = ""
    console.print(
        f"\nKV cache of a replica: {account['kv_tokens']:,} tokens, {account['concurrency']:.2f} requests of "
        f"{account['max_model_len']:,} tokens{blocks}"
    )
