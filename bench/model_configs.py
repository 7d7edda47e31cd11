"""How the config.json files that aiconfigurator-core ships are read: `python bench/model_configs.py FOLDER`.

FOLDER holds files NAME_config.json, and NAME_hf_quant_config.json for some, as aiconfigurator_core/model_configs in the
wheel of aiconfigurator-core 0.12.0 does. Each one is simulated, or has its memory answered alone, or is refused; the
reason is printed. The parameters are compared with those that are published. The script exits with 1 where they are off
by more than 0.5 %, or where a file ends in anything else than an answer or a sentence.
"""

import argparse
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from fastsim.catalog.load import load_model
from fastsim.catalog.model import Model
from fastsim.deployment.description import Deployment
from fastsim.deployment.operators.parameters import parameters
from fastsim.deployment.resolve import resolve
from fastsim.errors import CatalogError, ConfigError, DoesNotFitError
from fastsim.predictors.build import operator_times

# Parameters in 10^9 as model.safetensors.index.json or the metadata of the checkpoints count them, with tied embeddings
# counted once, and without layers of multi-token prediction.
EXACT = {
    "Qwen--Qwen3-0.6B": 0.596050,
    "Qwen--Qwen3-1.7B": 1.720575,
    "Qwen--Qwen3-8B": 8.190735,
    "Qwen--Qwen3-32B": 32.762123,
    "Qwen--Qwen3-30B-A3B": 30.532123,
    "Qwen--Qwen3-235B-A22B": 235.093635,
    "Qwen--Qwen3-Coder-480B-A35B-Instruct": 480.154875,
    "Qwen--Qwen3-VL-2B-Instruct": 2.127532,
    "Qwen--Qwen3-VL-4B-Instruct": 4.437816,
    "Qwen--Qwen3-VL-8B-Instruct": 8.767124,
    "Qwen--Qwen3-VL-30B-A3B-Instruct": 31.070754,
    "meta-llama--Meta-Llama-3.1-8B": 8.030261,
    "meta-llama--Meta-Llama-3.1-70B": 70.553706,
    "meta-llama--Meta-Llama-3.1-405B": 405.853389,
    "mistralai--Mixtral-8x7B-v0.1": 46.702793,
    "mistralai--Mixtral-8x22B-v0.1": 140.620634,
    "deepseek-ai--DeepSeek-V3": 671.026419,
    "deepseek-ai--DeepSeek-R1": 671.026419,
    "openai--gpt-oss-20b": 20.914757,
    "openai--gpt-oss-120b": 116.829157,
    "nvidia--Llama-3_3-Nemotron-Super-49B-v1": 49.867145,
    # From model cards, to the digits that they give.
    "moonshotai--Kimi-K2-Instruct": 1026.0,
    "MiniMaxAI--MiniMax-M2.5": 228.7,
    "XiaomiMiMo--MiMo-V2-Flash": 309.0,
    "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 31.6,
    "nvidia--Nemotron-H-56B-Base-8K": 56.3,
    "zai-org--GLM-5": 744.0,
}
LARGEST_ERROR = 0.005
NAMED = re.compile(r"-(\d+(?:\.\d+)?)B(?:-|$)")


def answer(model: Model, name: str, device: str) -> tuple[str, str]:
    """What fastsim answers for a model, simulated, memory or refused, and why if it is not simulated."""
    if model.refused:
        return "memory", model.refused
    for stages in (1, 2, 4, 8):
        try:
            one = resolve(
                Deployment(
                    model=name,
                    device=device,
                    tensor_parallel_size=8,
                    pipeline_parallel_size=stages,
                    max_model_len=4096,
                )
            )
            operator_times(one)
            return "simulated", ""
        except DoesNotFitError:
            continue
        except (CatalogError, ConfigError) as problem:
            return "memory", str(problem)
    return "memory", f"64 GPUs of {device} do not hold it"


def rows(folder: Path, device: str) -> list[tuple[str, str, float, float | None, str]]:
    """The name, the answer, the parameters in 10^9, those published, and the reason, for each file of a folder."""
    found: list[tuple[str, str, float, float | None, str]] = []
    with TemporaryDirectory() as place:
        for path in sorted(folder.glob("*_config.json")):
            name = path.name.removesuffix("_config.json")
            if name.endswith("_hf_quant"):
                continue
            here = Path(place) / name
            here.mkdir()
            shutil.copy(path, here / "config.json")
            beside = path.with_name(f"{name}_hf_quant_config.json")
            if beside.exists():
                shutil.copy(beside, here / "hf_quant_config.json")
            try:
                model = load_model(here)
            except (CatalogError, ConfigError) as problem:
                found.append((name, "refused", 0.0, None, str(problem).replace(f"{here}/", "")))
                continue
            said, why = answer(model, str(here), device)
            size = parameters(model).total / 1e9
            found.append((name, said, size, EXACT.get(name), why.replace(f"{here}", name)))
    return found


def main() -> None:
    """Print a line for each file and the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="b200")
    given = parser.parse_args()
    answers: Counter[str] = Counter()
    worst = 0.0
    for name, said, size, published, why in rows(given.folder, given.device):
        answers[said] += 1
        about = f"{size:10.3f}e9"
        if published is not None:
            error = size / published - 1
            worst = max(worst, abs(error))
            about += f" (published {published:g}e9, {100 * error:+.2f} %)"
        elif in_name := NAMED.search(name):
            about += f" (its name says {in_name[1]}B)"
        print(f"{said:9} {name:52} {about} {why}")
    print(f"\n{', '.join(f'{number} {said}' for said, number in answers.most_common())} of {answers.total()} files")
    print(f"largest error of the parameters where they are published: {100 * worst:.2f} %")
    sys.exit(int(worst > LARGEST_ERROR or not answers))


if __name__ == "__main__":
    main()
