"""How fast an update is, beside its own plain form and its rivals': `python -m perf.train` (or `make bench`).

Everything at 84², batch 128, on four 3×3 convolutions of 32 filters with strides 2, 1, 1, 1 (perf.train_stack), in
turns in one run; an "update" is the mean of one with and one without an actor step. Prints a table with the targets
of design.md §5, and as its very last line one JSON object. Milliseconds of an update:

    plain_loop           Agent.update, the whole method with attention and fusion, over a list of batches
    lightning            the same through train.run's module and trainer
    unshared_whole       the same with every loss encoding for itself (perf.train_unshared holds the pass list)
    fp32, bf16           dual stream, attention and fusion off, in both precisions
    unshared             as fp32, with every loss encoding for itself
    single               SAC's single stream in our frame (presets/methods/sac.yaml), fp32
    sb3_sac_same_stack   Stable-Baselines3's SAC on a single stream; null without it
    drqv2_style          DrQ-v2's update (perf.train_rivals)

`ratios` are medians of each round's own; `per_flop` is our FLOPs per second over DrQ-v2's; `convolutions` the best rate
of any convolution in the round and the share of it that ours reach; `gradients` what perf.train_gradients compares;
`lightning_overhead_ms` is measured on a small agent, where it is not lost in the update's own noise.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table

from perf.train_clock import Lap, disturbed, ratio, seconds, take_turns
from perf.train_convolutions import convolution_seconds, flops, peak
from perf.train_gradients import compare_gradients
from perf.train_lightning import overhead, through_lightning
from perf.train_rivals import drqv2, sb3_sac
from perf.train_stack import Stack, make_agent, make_batches, plain_loop
from perf.train_unshared import UnsharedAgent
from train.agent import Agent

UPDATES: Final = 2
"""Updates a lap: one without and one with an actor step."""


def measure(stack: Stack, rounds: int, small_steps: int) -> dict[str, Any]:
    """All figures of a run."""
    plain, whole = make_batches(stack, whole=False), make_batches(stack, whole=True)
    no_losses = {"semantic_weight": 0.0, "transition_weight": 0.0, "reward_weight": 0.0}
    agents = {
        "fp32": make_agent(Agent, stack),
        "bf16": make_agent(Agent, stack, precision="bf16"),
        "unshared": make_agent(UnsharedAgent, stack),
        "single": make_agent(Agent, stack, streams="single", changes=no_losses),
    }
    bodies: dict[str, Callable[[], None]] = {
        "plain_loop": plain_loop(make_agent(Agent, stack, whole=True), whole),
        "unshared_whole": plain_loop(make_agent(UnsharedAgent, stack, whole=True), whole),
        **{name: plain_loop(agent, plain) for name, agent in agents.items()},
        "drqv2_style": drqv2(stack, plain),
    }
    rival = sb3_sac(stack, plain)
    if rival is not None:
        bodies["sb3_sac_same_stack"] = rival
    laps = take_turns(bodies, rounds, UPDATES)
    agent = make_agent(Agent, stack, whole=True)
    best: list[tuple[float, float]] = []
    for each in laps:
        inner = through_lightning(agent, whole, 2 * UPDATES + 1)
        each["lightning"] = Lap(inner, 0.0)
        best.append((peak(torch.float32), convolution_seconds(bodies["fp32"])))
    work = {name: flops(bodies[name]) for name in ("fp32", "drqv2_style")}
    rates = [work["fp32"].convolutions / inside for _, inside in best]
    found: dict[str, Any] = {name: round(1e3 * seconds(laps, name), 2) for name in sorted(laps[0])}
    found.setdefault("sb3_sac_same_stack", None)
    pairs = {
        "unshared_over_shared": ("unshared", "fp32"),
        "unshared_over_shared_whole": ("unshared_whole", "plain_loop"),
        "unshared_over_bf16": ("unshared", "bf16"),
        "fp32_over_bf16": ("fp32", "bf16"),
        "sb3_over_dual": ("sb3_sac_same_stack", "fp32"),
        "sb3_over_dual_whole": ("sb3_sac_same_stack", "plain_loop"),
        "sb3_over_dual_bf16": ("sb3_sac_same_stack", "bf16"),
        "sb3_over_single": ("sb3_sac_same_stack", "single"),
        "lightning_over_plain": ("lightning", "plain_loop"),
    }
    found["ratios"] = {
        name: round(ratio(laps, *pair), 3) if pair[0] in laps[0] else None for name, pair in pairs.items()
    }
    faster = ratio(laps, "drqv2_style", "fp32")
    found["per_flop"] = round(faster * work["fp32"].total / work["drqv2_style"].total, 3)
    found["gflop"] = {name: round(each.total / UPDATES / 1e9, 2) for name, each in work.items()}
    found["convolutions"] = {
        "peak_gflops": round(median(top for top, _ in best) / 1e9, 1),
        "reached_gflops": round(median(rates) / 1e9, 1),
        "fraction_of_peak": round(median(rate / top for rate, (top, _) in zip(rates, best, strict=True)), 3),
        "share_of_update": round(median(inside for _, inside in best) / UPDATES / seconds(laps, "fp32"), 3),
    }
    found["lightning_overhead_ms"] = round(1e3 * overhead(rounds, small_steps), 3)
    found["gradients"] = compare_gradients(stack)
    found["disturbed_laps"] = round(disturbed(laps), 2)
    return found


def report(found: dict[str, Any]) -> Table:
    """The figures beside their targets (design.md §5)."""
    table = Table("", "found", "target", title="an update, fp32 unless said")
    ratios, convolutions, gradients = found["ratios"], found["convolutions"], found["gradients"]

    def row(name: str, value: float | None, form: str, target: str) -> None:
        table.add_row(name, "–" if value is None else format(value, form), target)

    for name in ("fp32", "bf16", "unshared", "plain_loop", "unshared_whole", "single", "sb3_sac_same_stack"):
        row(f"{name}, ms", found[name], ".0f", "")
    row("drqv2_style, ms", found["drqv2_style"], ".0f", "")
    row("unshared / shared", ratios["unshared_over_shared"], ".2f", "≥ 3")
    row("unshared / shared, whole method", ratios["unshared_over_shared_whole"], ".2f", "≥ 3")
    row("unshared fp32 / shared bf16", ratios["unshared_over_bf16"], ".2f", "")
    row("SB3's single stream / our dual", ratios["sb3_over_dual"], ".2f", "≥ 2")
    row("SB3's single stream / our dual, whole method", ratios["sb3_over_dual_whole"], ".2f", "")
    row("SB3's single stream / our dual in bf16", ratios["sb3_over_dual_bf16"], ".2f", "")
    row("SB3's single stream / our single stream", ratios["sb3_over_single"], ".2f", "")
    row("our FLOP/s / DrQ-v2's", found["per_flop"], ".2f", "≈ 1")
    row("convolutions: share of the peak", convolutions["fraction_of_peak"], ".1%", "≥ 50%")
    row("convolutions: share of the update", convolutions["share_of_update"], ".1%", "")
    row("Lightning / plain loop", ratios["lightning_over_plain"], ".3f", "≤ 1.02")
    row("Lightning's overhead per step, ms", found["lightning_overhead_ms"], ".2f", "≤ 0.4")
    row("… in an update", found["lightning_overhead_ms"] / found["plain_loop"], ".2%", "≤ 2%")
    row(
        "gradients: shared − unshared",
        gradients["shared_unshared_max"],
        ".1e",
        f"≤ {gradients['shared_unshared_bound']}",
    )
    row(
        "gradients: cosine of bf16 and fp32", gradients["bf16_cosine_min"], ".4f", f"≥ {gradients['bf16_cosine_bound']}"
    )
    row("losses: bf16 / fp32 − 1", gradients["bf16_loss_max"], ".4f", f"≤ {gradients['bf16_loss_bound']}")
    return table


def bf16_in_hardware() -> bool:
    """Whether this processor computes in bf16; PyTorch does without, slowly."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return bool({"avx512_bf16", "amx_bf16", "avx_ne_convert"} & set(flags))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.train", description="How fast an update is.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds whose median counts")
    parser.add_argument("--size", type=int, default=84, help="picture side, px")
    parser.add_argument("--filters", type=int, default=32, help="filters of each convolution")
    parser.add_argument("--batch", type=int, default=128, help="transitions of an update")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--small_steps", type=int, default=300, help="steps for Lightning's overhead")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    load, hardware = os.getloadavg()[0], bf16_in_hardware()
    print(f"load of this machine before we begin: {load:.1f} on {os.cpu_count()} cores", flush=True)
    if not hardware:
        print("this processor has no bf16: PyTorch emulates it, and its figures say nothing about one that has")
    found = measure(Stack(chosen.size, chosen.filters, chosen.batch), chosen.rounds, chosen.small_steps)
    found |= {"load_before": round(load, 2), "bf16_in_hardware": hardware}
    found |= {"cpu_capability": torch.backends.cpu.get_cpu_capability()}
    Console(width=110).print(report(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
