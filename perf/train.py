"""How fast an update is, beside its own plain form and its rivals': `python -m perf.train` (or `make bench`).

Everything at 84², batch 128, on four 3×3 convolutions of 32 filters, strides 2, 1, 1, 1 (perf.train_stack), in turns
in one run; an "update" is the mean of one with and one without an actor step. Prints a table with the targets of
design.md §5, and as its very last line one JSON object. Milliseconds of an update:

    plain_loop           Agent.update, the whole method with attention and fusion, over a list of batches
    lightning            the same through train.run's module and trainer
    unshared_whole       the same with every loss encoding for itself (perf.plain_update holds the pass list)
    fp32, bf16           dual stream, attention and fusion off, in both precisions
    unshared             as fp32, with every loss encoding for itself
    single               SAC's single stream in our frame (presets/methods/sac.yaml), fp32
    sb3_sac_same_stack   Stable-Baselines3's SAC on a single stream (perf.train_rivals); null without it
    drqv2_style          DrQ-v2's update (perf.train_rivals)
    inside_convolutions  the part of fp32 that is spent in them
    convolutions_at_peak what they would take at convolution_peak_gflops, the best rate of any convolution in the round

The laptop preset's own networks at 64², batch 32, are `laptop` (Semore) and `laptop_sac`, and their plain forms.
`lightning_overhead_ms` is what of a step through Lightning is not Agent.update: the difference of two runs would drown
in their noise. `ratios` are the rounds' own, median and spread; `per_flop` is our FLOPs per second over DrQ-v2's,
`gflop` those of an update; `gradients` is what perf.train_gradients compares; `disturbed_laps` is the share of laps in
which others took more than a tenth of the machine, left out where quiet ones exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from perf.clock import Body, Figure, disturbed, ending, lap, opening, parser, seconds, spread, take_turns
from perf.plain_update import PlainTrainer
from perf.train_convolutions import convolution_seconds, flops, peak
from perf.train_gradients import compare_gradients
from perf.train_lightning import TimedAgent, through_lightning
from perf.train_rivals import drqv2, sb3_sac
from perf.train_stack import Stack, laptop_agent, make_agent, make_batches, plain_loop, random_batches
from semore.train.agent import Agent
from semore.train.memory import keep_freed_memory

ROUNDS: Final = 4
UPDATES: Final = 2
"""Updates a lap: one without and one with an actor step."""
RATIOS: Final = {
    "unshared_over_shared": ("unshared", "fp32"),
    "unshared_over_shared_whole": ("unshared_whole", "plain_loop"),
    "laptop_plain_over_shared": ("laptop_plain", "laptop"),
    "laptop_sac_plain_over_shared": ("laptop_sac_plain", "laptop_sac"),
    "unshared_over_bf16": ("unshared", "bf16"),
    "sb3_over_dual": ("sb3_sac_same_stack", "fp32"),
    "sb3_over_dual_whole": ("sb3_sac_same_stack", "plain_loop"),
    "sb3_over_dual_bf16": ("sb3_sac_same_stack", "bf16"),
    "sb3_over_single": ("sb3_sac_same_stack", "single"),
    "fp32_over_bf16": ("fp32", "bf16"),
    "convolutions_of_peak": ("convolutions_at_peak", "inside_convolutions"),
    "convolutions_of_update": ("inside_convolutions", "fp32"),
}


def measure(stack: Stack, rounds: int) -> dict[str, Any]:
    """All figures of a run."""
    plain, whole = make_batches(stack, whole=False), make_batches(stack, whole=True)
    shared, rival, other = plain_loop(make_agent(Agent, stack), plain), sb3_sac(stack, plain), drqv2(stack, plain)
    ours, theirs = flops(shared), flops(other)
    timed, overheads = make_agent(TimedAgent, stack, whole=True), list[float]()

    def lightning() -> float:
        steps = through_lightning(timed, whole, 2 * UPDATES + 1)
        overheads.append(steps.overhead)
        return steps.each

    bodies: dict[str, Body] = {
        "plain_loop": plain_loop(make_agent(Agent, stack, whole=True), whole),
        "lightning": lightning,
        "unshared_whole": plain_loop(PlainTrainer(make_agent(Agent, stack, whole=True)), whole),
        "unshared": plain_loop(PlainTrainer(make_agent(Agent, stack)), plain),
        "fp32": shared,
        "inside_convolutions": lambda: convolution_seconds(shared) / UPDATES,
        "convolutions_at_peak": lambda: ours.convolutions / UPDATES / peak(torch.float32),
        "drqv2_style": other,
        "single": plain_loop(make_agent(Agent, stack, streams="single", changes={"auxiliaries": ()}), plain),
        **({"sb3_sac_same_stack": rival} if rival else {}),
        "bf16": plain_loop(make_agent(Agent, stack, precision="bf16"), plain),
        **laptop_bodies(),
    }
    # Emulated bf16 takes longer than all others together: it has its turn in the last round only.
    seldom = () if bf16_in_hardware() else ("bf16",)
    for body in bodies.values() if rounds > 1 else ():  # the first call of all fetches memory and makes kernels
        body()
    overheads.clear()
    often = {name: body for name, body in bodies.items() if name not in seldom}
    laps = take_turns(often, rounds, UPDATES, told=f"{stack.size}², batch {stack.batch}")
    laps[-1].update({name: lap(bodies[name], UPDATES) for name in seldom})
    found: dict[str, Any] = {name: round(1e3 * seconds(laps, name), 2) for name in bodies}
    found.setdefault("sb3_sac_same_stack", None)
    found["ratios"] = {name: spread(laps, *pair) if pair[0] in bodies else None for name, pair in RATIOS.items()}
    found["per_flop"] = spread(laps, "drqv2_style", "fp32").times(ours.total / theirs.total)
    found["gflop"] = {
        name: round(work.total / UPDATES / 1e9, 2) for name, work in (("fp32", ours), ("drqv2_style", theirs))
    }
    at_peak = seconds(laps, "convolutions_at_peak")
    found["convolution_peak_gflops"] = round(ours.convolutions / UPDATES / at_peak / 1e9, 1)
    found["lightning_overhead_ms"] = round(1e3 * median(overheads or [0.0]), 3)
    found["gradients"] = compare_gradients(replace(stack, batch=min(stack.batch, 32)))
    found["disturbed_laps"] = round(disturbed(laps), 2)
    return found


def laptop_bodies() -> dict[str, Body]:
    """The laptop preset's own agents, shared and plain; as many updates a call as the others make."""
    bodies: dict[str, Body] = {}
    for name, method in (("laptop", "semore"), ("laptop_sac", "sac")):
        agent, plain = laptop_agent(method), PlainTrainer(laptop_agent(method))
        batches = random_batches(agent.settings.encoder.size, agent.settings.encoder.mask_resolution, 32, UPDATES)
        bodies |= {name: plain_loop(agent, batches), f"{name}_plain": plain_loop(plain, batches)}
    return bodies


def figures(found: dict[str, Any]) -> Iterator[Figure]:
    """The figures beside their targets (design.md §5)."""
    ratios, gradients = found["ratios"], found["gradients"]
    updates = ("plain_loop", "lightning", "unshared_whole", "fp32", "unshared", "bf16", "single", "sb3_sac_same_stack")
    for name in (*updates, "drqv2_style", "laptop", "laptop_sac"):
        yield f"{name}, ms", found[name], ".0f", ""
    yield "unshared / shared", ratios["unshared_over_shared"], ".2f", "≥ 3"
    yield "unshared / shared, whole method", ratios["unshared_over_shared_whole"], ".2f", "≥ 3"
    yield "the same of the laptop preset's network", ratios["laptop_plain_over_shared"], ".2f", ""
    yield "the same of its SAC", ratios["laptop_sac_plain_over_shared"], ".2f", ""
    yield "unshared fp32 / shared bf16", ratios["unshared_over_bf16"], ".2f", "≥ 3 with bf16 in hardware"
    yield "SB3's single stream / our dual", ratios["sb3_over_dual"], ".2f", "≥ 1"
    yield "SB3's single stream / our dual, whole method", ratios["sb3_over_dual_whole"], ".2f", ""
    yield "SB3's single stream / our dual in bf16", ratios["sb3_over_dual_bf16"], ".2f", ""
    yield "SB3's single stream / our single stream", ratios["sb3_over_single"], ".2f", ""
    yield "fp32 / bf16", ratios["fp32_over_bf16"], ".2f", ""
    yield "our FLOP/s / DrQ-v2's", found["per_flop"], ".2f", "level"
    yield "best convolution, GFLOP/s", found["convolution_peak_gflops"], ".0f", ""
    yield "our convolutions' share of it", ratios["convolutions_of_peak"], ".1%", "≥ 50%"
    yield "their share of the update", ratios["convolutions_of_update"], ".1%", ""
    yield "Lightning's overhead per step, ms", found["lightning_overhead_ms"], ".2f", "≤ 0.4"
    yield "… over the update", found["lightning_overhead_ms"] / found["plain_loop"], ".2%", "≤ 2%"
    for name, comparison, form in (
        ("gradients: shared − unshared", "shared_unshared", ".1e"),
        ("gradients: bf16 and fp32, cosine", "bf16_cosine", ".4f"),
        ("losses: bf16 / fp32 − 1", "bf16_loss", ".4f"),
    ):
        end, sign = ("min", "≥") if "cosine" in comparison else ("max", "≤")
        yield name, gradients[f"{comparison}_{end}"], form, f"{sign} {gradients[f'{comparison}_bound']}"


def bf16_in_hardware() -> bool:
    """Whether this processor computes in bf16; PyTorch does without, slowly."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return bool({"avx512_bf16", "amx_bf16", "avx_ne_convert"} & set(flags))


def main() -> None:
    options = parser("perf.train", "How fast an update is.", rounds=ROUNDS)
    options.add_argument("--size", type=int, default=84, help="picture side, px")
    options.add_argument("--filters", type=int, default=32, help="filters of each convolution")
    options.add_argument("--batch", type=int, help="transitions of an update; default 128, with --quick 32")
    options.add_argument("--threads", type=int, default=2, help="CPU threads")
    chosen = opening(options, ROUNDS, quick={"batch": 32}, full={"batch": 128})
    keep_freed_memory()  # as training does
    torch.set_num_threads(chosen.threads)
    if not (hardware := bf16_in_hardware()):
        print("this processor has no bf16: PyTorch emulates it, and its figures say nothing about one that has")
    found = measure(Stack(chosen.size, chosen.filters, chosen.batch), chosen.rounds)
    found |= {"bf16_in_hardware": hardware, "threads": chosen.threads}
    found |= {"cpu_capability": torch.backends.cpu.get_cpu_capability()}
    ending("an update, in fp32 unless said", figures(found), found)


if __name__ == "__main__":
    main()
