"""What the compiled loop writes is what the operators of other devices write, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semore.train import pictures
from semore.train.pictures import in_unit, stack_of_three, stacked, static_and_motion


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3), st.integers(3, 7), st.integers(3, 7), st.sampled_from([2, 3]))
def test_both_ways_write_the_same(seed, batch, height, width, newest):
    frames = torch.randint(0, 256, (batch, 4, 3, height, width), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(seed))  # fmt: skip
    last = frames.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    found = [(*static_and_motion(each, newest), stack_of_three(each, newest)) for each in (frames, last)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "_plain", lambda window: False)
        found.append((*static_and_motion(frames, newest), stack_of_three(frames, newest)))
    for made in zip(*found, strict=True):
        assert all(torch.equal(made[0], other) for other in made)
        assert all(each.is_contiguous(memory_format=torch.channels_last) for each in made)


def test_every_byte_is_its_255th():
    frames = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 16, 16).expand(1, 3, 3, 16, 16)
    assert torch.equal(stack_of_three(frames, 2)[0, 0].flatten(), torch.arange(256) / 255.0)
    assert torch.equal(in_unit(frames)[0, 0, 0].flatten(), torch.arange(256) / 255.0)


def test_an_observation_is_three_frames_oldest_first():
    observation = torch.arange(2 * 9 * 4).view(2, 9, 2, 2)
    assert torch.equal(stacked(observation)[:, 1], observation[:, 3:6])
