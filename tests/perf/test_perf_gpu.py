"""What the GPU's benchmark is made of, on a CPU and tiny networks: how fast anything is, is not tested."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
from tape import Tape
from tiny_agent import GRID, SIZE, TINY, make_agent

from perf import gpu as bench
from perf import gpu_updates as parts
from perf.clock import Spread
from perf.gpu_models import language, segmenters
from perf.gpu_seeds import at_once
from semore.train import captured
from semore.train.agent_settings import LossWeights

CPU = torch.device("cpu")
SHAPE = {
    "text_config": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 512, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [2, 3, 3]},
    },
    "vision_config": {"depth": 2, "embed_dim": 64, "num_heads": 4, "hidden_size": 64, "mlp_ratio": 2},
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("one_thread")


def test_without_a_gpu_it_says_so_in_one_line_and_an_empty_object(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["perf.gpu", "--quick"])
    bench.main()
    *_, told, last = capsys.readouterr().out.splitlines()
    assert told == "perf.gpu: torch sees no GPU; nothing is measured"
    assert json.loads(last) == {}


def test_updates_as_they_stand_and_replayed_are_compared_in_both_precisions(monkeypatch):
    monkeypatch.setattr(parts, "BETWEEN", 6)
    monkeypatch.setattr(captured, "WARM_UPS", 1)
    tapes: list[Tape] = []
    made: list[str] = []

    def make(precision: str):
        made.append(precision)
        return make_agent(settings=replace(TINY, encoder=replace(TINY.encoder, precision=precision)))

    def recorder() -> Tape:
        tapes.append(Tape())
        return tapes[-1]

    case = bench.Case(make, SIZE, GRID, 4)
    found = bench.updates(case, CPU, recorder, lambda: None, rounds=1, seconds=0.01)
    assert made == ["fp32", "fp32", "bf16", "bf16"]
    assert [tape.recorded for tape in tapes] == [2, 2]
    assert all(isinstance(each, Spread) and each.least > 0 for each in found.values())
    assert {name for name in found if "over" in name} == {
        *("replayed_over_eager_fp32", "replayed_over_eager_bf16", "bf16_over_fp32")
    }


def test_the_cases_are_agents_that_take_their_batches():
    for name, case in bench.cases().items():
        small = replace(case, batch=2)
        agent = case.make("fp32")
        (batch,) = bench.random_batches(small, CPU, count=1)
        assert set(agent.update(batch, LossWeights())) >= {"q", "alpha"}, name
    assert set(bench.cases()) == {"semore_64", "sac_64", "semore_84", "sac_84"}
    assert bench.cases()["semore_64"].grid == 32  # half the side of the pictures


CHILD = """
import sys
print("ready", flush=True)
assert sys.stdin.readline() == "go\\n"
print(15.0)
"""


def test_processes_at_once_are_added_up_once_all_are_ready():
    assert at_once(3, 2.0, (sys.executable, "-c", CHILD)) == 45.0
    with pytest.raises(RuntimeError, match="said 'broken'"):
        at_once(2, 2.0, (sys.executable, "-c", "print('broken')"))


def test_a_network_of_qwen2_vl_s_shape_answers_batched_and_one_at_a_time():
    found = language(CPU, SHAPE, frames=2, tokens=3, rounds=1, upscale=84)
    assert 100_000 < found["parameters"] < 1_000_000
    assert found["batched_per_s"].median > 0
    assert found["batched_over_single"].median > 0


@pytest.mark.slow
def test_segmenters_are_measured():
    found = segmenters("cpu", 1, 1)
    assert set(found) == {"cris_fp32", "cris_bf16", "cris_tiny", "cris_bf16_over_fp32"}
