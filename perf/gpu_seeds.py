"""Several processes that update at once on one GPU, as `train --seeds` does; for perf.gpu.

Run as a module it is one of them: it says that it is ready, waits for a line, updates for the seconds given, and says
how many a second it has done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import torch

from perf.gpu_updates import cases, lasting, random_batches
from semore.train.captured import replayed

READY: Final = "ready"


def at_once(count: int, seconds: float, command: Sequence[str] = (sys.executable, "-m", "perf.gpu_seeds")) -> float:
    """Updates per second of so many processes together."""
    with ExitStack() as stack:
        processes = [
            subprocess.Popen([*command, str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        for process in processes:
            stack.enter_context(process)
            stack.callback(process.kill)
        for process in processes:
            assert process.stdout is not None
            if (said := process.stdout.readline().strip()) != READY:
                raise RuntimeError(f"a process that was to update said {said!r}; its own message is above")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return sum(float(process.communicate()[0]) for process in processes)


def main() -> None:
    """One of them."""
    device = torch.device("cuda")
    case, seconds = cases()["semore_64"], float(sys.argv[1])
    agent = case.make("fp32").to(device)
    body = lasting(replayed(agent, wanted=True), random_batches(case, device), seconds, torch.cuda.synchronize)
    torch.cuda.synchronize()
    print(READY, flush=True)
    sys.stdin.readline()
    print(1 / (body() or 1.0))


if __name__ == "__main__":
    main()
