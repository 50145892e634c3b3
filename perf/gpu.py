"""What a GPU makes of training and annotating: `python -m perf.gpu` (or `make bench`), under five minutes on one GPU.

Prints a table, and as its very last line one JSON object, all measured in one run; without a GPU one line and `{}`.
Ratios are medians of rounds in which both took their turns, with the least and the most:

    updates     per method, at 64² (preset laptop, batch 32) and 84² (perf.train_stack, batch 128): updates per second
                done as they stand and replayed from CUDA graphs, in fp32 and in bf16, and the ratios of these
    seeds       updates per second of 1, 2 and 4 processes at once on the GPU, all together, over those of one
    segmenters  frames per second of CRIS (random weights, 416 px, fp32 and bf16) and of CRIS-tiny, 4 phrases a frame
    language    tokens per second of a network of Qwen2-VL-2B's shape (random weights, bf16), 8 frames at once over one
                at a time; null where it does not fit

Written for a GPU, and never run on one: its functions are tested on a CPU, on tiny networks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch

from perf.clock import Body, Figure, ending, opening, parser, rate, spread, take_turns
from perf.gpu_models import ROOM, language, segmenters
from perf.gpu_seeds import at_once
from perf.gpu_updates import Case, cases, lasting, random_batches
from semore.train.captured import Captured, CudaGraphs, Recorder

PRECISIONS: Final = ("fp32", "bf16")
SEEDS: Final = (1, 2, 4)


def updates(
    case: Case, device: torch.device, recorder: Callable[[], Recorder], wait: Callable[[], None],
    rounds: int, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Rates and ratios of a case: as they stand and replayed, in both precisions."""
    batches, bodies = random_batches(case, device), dict[str, Body]()
    for precision in PRECISIONS:
        eager, agent = (case.make(precision).to(device) for _ in range(2))
        bodies[f"eager_{precision}"] = lasting(eager.update, batches, seconds, wait)
        bodies[f"replayed_{precision}"] = lasting(Captured(agent, recorder()).update, batches, seconds, wait)
    laps = take_turns(bodies, rounds)
    return {
        **{f"{name}_per_s": rate(laps, name) for name in bodies},
        **{f"replayed_over_eager_{each}": spread(laps, f"eager_{each}", f"replayed_{each}") for each in PRECISIONS},
        "bf16_over_fp32": spread(laps, "replayed_fp32", "replayed_bf16"),
    }


def measure(rounds: int, seconds: float, seeds: float) -> dict[str, Any]:
    """All figures, on the first GPU."""
    device = torch.device("cuda")
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "updates": {}}
    for name, case in cases().items():
        found["updates"][name] = updates(
            case, device, lambda: CudaGraphs(device), torch.cuda.synchronize, rounds, seconds
        )
        print(f"updates of {name} are measured", flush=True)
    torch.cuda.empty_cache()
    together = {count: at_once(count, seeds) for count in SEEDS}
    found["seeds"] = {
        f"{count}": {"per_s": round(each, 1), "over_one": round(each / together[1], 2)}
        for count, each in together.items()
    }
    print("seeds at once are measured", flush=True)
    found["segmenters"] = segmenters("cuda", 16, rounds)
    torch.cuda.empty_cache()
    fits = torch.cuda.mem_get_info()[0] > ROOM
    found["language"] = language(device, rounds=min(rounds, 2)) if fits else None
    return found


def figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    """Rows of the table."""
    for name, each in found["updates"].items():
        yield f"{name}: updates/s as they stand, fp32", each["eager_fp32_per_s"], ",.0f", ""
        yield f"{name}: replayed / as they stand, fp32", each["replayed_over_eager_fp32"], ".2f", ""
        yield f"{name}: replayed / as they stand, bf16", each["replayed_over_eager_bf16"], ".2f", ""
        yield f"{name}: bf16 / fp32, replayed", each["bf16_over_fp32"], ".2f", ""
    for count, each in found["seeds"].items():
        yield f"{count} at once, updates/s of all / of one", each["over_one"], ".2f", ""
    for name, each in found["segmenters"].items():
        yield f"{name}, frames/s", each, ".1f", ""
    if found["language"]:
        yield "Qwen2-VL-2B's shape, tokens/s, 8 frames at once", found["language"]["batched_per_s"], ".0f", ""
        yield "… over one frame at a time", found["language"]["batched_over_single"], ".2f", ""


def main() -> None:
    options = parser("perf.gpu", "What a GPU makes of training and annotating.", 3)
    options.add_argument("--seconds", type=float, help="of a lap of updates")
    options.add_argument("--seeds", type=float, help="seconds for which several processes update at once")
    chosen = opening(options, 3, quick={"seconds": 0.3, "seeds": 2.0}, full={"seconds": 1.0, "seeds": 5.0})
    if not torch.cuda.is_available():
        print("perf.gpu: torch sees no GPU; nothing is measured")
        print(json.dumps({}))
        return
    found = measure(chosen.rounds, chosen.seconds, chosen.seeds)
    ending(f"on one {found['gpu']}", figures(found), found)


if __name__ == "__main__":
    main()
