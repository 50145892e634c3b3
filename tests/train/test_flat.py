"""Parameters laid end to end: a module notices nothing, and its copies have parts of their own."""

from __future__ import annotations

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_agent import make_agent, make_batch
from torch import nn

from semore.train.agent_settings import LossWeights
from semore.train.flat import Flat


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    return layers.to(memory_format=torch.channels_last)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10.0))
def test_steps_are_those_of_the_parameters_one_by_one(seed, clip):
    plain, flat = network(seed), network(seed)
    side = Flat(flat.parameters())
    one, end_to_end = torch.optim.Adam(plain.parameters(), 0.1), torch.optim.Adam([side.values], 0.1)
    for step in range(3):
        seen = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(step))
        plain(seen).square().sum().backward()
        nn.utils.clip_grad_norm_(plain.parameters(), clip)
        one.step()
        one.zero_grad()
        flat(seen).square().sum().backward()
        side.gather()
        side.clip(clip)
        end_to_end.step()
        side.clear()
        if step == 0:
            flat.zero_grad()  # sets gradients to None: autograd makes new ones, which are gathered
    for expected, found in zip(plain.parameters(), flat.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
        assert found.stride() == expected.stride()


def test_a_copy_learns_by_itself_and_a_moved_agent_goes_on():
    agent = make_agent()
    other, before = copy.deepcopy(agent), copy.deepcopy(agent.state_dict())
    for each in (other, other.double().float()):  # as a move to another device: every tensor anew
        torch.manual_seed(3)
        each.update(make_batch(), LossWeights())
    assert all(torch.equal(before[name], value) for name, value in agent.state_dict().items())
    torch.manual_seed(3)
    agent.update(make_batch(), LossWeights())
    torch.manual_seed(3)
    agent.update(make_batch(), LossWeights())
    for name, value in agent.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value)


def test_following_moves_a_share_of_the_way():
    first, second = network(1), network(2)
    start = [part.clone() for part in first.parameters()]
    one, two = Flat(first.parameters()), Flat(second.parameters())
    one.follow(two, 0.25)
    for part, begun, goal in zip(first.parameters(), start, second.parameters(), strict=True):
        torch.testing.assert_close(part, begun + 0.25 * (goal - begun))
    one.follow(two, 1.0)
    assert torch.equal(one.values, two.values)
