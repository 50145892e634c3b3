"""The dual stream: map sizes, residual channels, fusion, gated attention, and whose mask it sees."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from semore.datasets.errors import SemoreError
from semore.train.attention import CrossAttention, JointAttention, NoAttention
from semore.train.encoder import (
    DualStream,
    Features,
    Neck,
    Silence,
    SingleNeck,
    SingleStream,
    make_backbone,
    make_neck,
)
from semore.train.encoder_settings import HALF, EncoderSettings, check_encoder, geometry
from semore.train.student import EmptyMask, MaskDecoder, StudentMask, watched

TINY = EncoderSettings(size=32, channels=(4, 8, 8, 8), heads=2, latent=6)


def tiny(**changes) -> EncoderSettings:
    return EncoderSettings(**{**vars(TINY), **changes})


def film(batch: int, size: int = TINY.size, seed: int = 0) -> torch.Tensor:
    """Four random frames, (B,4,3,S,S) uint8."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 4, 3, size, size), dtype=torch.uint8, generator=generator)


def pictures(batch: int, size: int = TINY.size) -> tuple[torch.Tensor, torch.Tensor]:
    return DualStream.inputs(film(batch, size), 2)


def given_mask(module: nn.Module, semantic, motion, known):
    """What an attention makes of two streams and a mask's features: (F_s⁺, F_m⁺)."""
    seen, moved, again = module(semantic, motion, known[:, 0], lambda mask: known)
    assert again is known
    return seen, moved


def open_gates(module: DualStream, first: float = 0.7, second: float = -0.4) -> DualStream:
    with torch.no_grad():
        module.attention.gates.copy_(torch.tensor([first, second]))
    return module


@pytest.mark.parametrize("size", [21, 36, 64, 102, 128])
def test_the_map_is_six_to_nine_cells_wide_and_is_what_convolutions_give(size):
    shape = geometry(size)
    assert 6 <= shape.grid <= 9
    stream = DualStream(tiny(size=size)).semantic_stream
    found, sides = torch.zeros(1, 3, size, size), []
    for layer in stream:
        found = layer(found)
        if isinstance(layer, nn.Conv2d):
            sides.append(found.shape[-1])
    assert sides[-1] == shape.grid
    if size == 128:  # DMR's map at the paper's size (method.md §3.1)
        assert sides == [62, 30, 14, 6]


@pytest.mark.parametrize("size", [8, 20, 37, 112, 200, 256])
def test_sizes_without_a_stack_are_refused_by_name(size):
    with pytest.raises(SemoreError, match=f"size {size}; choose one of 21 to 36, 41 to 102, 113 to 128"):
        geometry(size)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"streams": "three"}, r"agent\.encoder\.streams 'three'; choose one of dual, single"),
        ({"attention": "full"}, r"agent\.encoder\.attention 'full'; choose one of cross, joint, none"),
        ({"mask": "truth"}, r"agent\.encoder\.mask 'truth'; choose one of student, own, cached, zeros"),
        ({"fusion": "sum"}, r"agent\.encoder\.fusion 'sum'; choose one of bilinear, concat"),
        ({"precision": "fp16"}, r"agent\.encoder\.precision 'fp16'; choose one of fp32, bf16"),
        ({"channels": (4, 8, 8)}, r"agent\.encoder\.channels \[4, 8, 8\] must name 4 widths"),
        ({"heads": 3}, r"agent\.encoder\.heads 3 does not divide the 8"),
        ({"heads": 0}, r"agent\.encoder\.heads 0"),
        ({"size": 20}, r"agent\.encoder\.size 20"),
        ({"mask_path": "sum"}, r"agent\.encoder\.mask_path 'sum'; choose one of gated, concat"),
        ({"mask_side": 24}, r"agent\.encoder\.mask_side 24 does not fit .*size 32; choose 0, -1 or one of 8, 16, 32:"),
        ({"mask_side": 64}, r"agent\.encoder\.mask_side 64 .*choose 0, -1 or one of 8, 16, 32:"),
        ({"mask_side": 4}, r"agent\.encoder\.mask_side 4 "),
        ({"size": 128, "mask_side": 64}, r"mask_side 64 .*size 128; choose 0, -1 or one of 6, 12, 24, 48, 96:"),
    ],
)
def test_wrong_shapes_are_refused_by_the_setting_s_name(changes, word):
    with pytest.raises(SemoreError, match=word):
        check_encoder(tiny(**changes))


@pytest.mark.parametrize(("size", "side"), [(32, 16), (64, 32), (84, 56), (128, 96)])
def test_half_is_the_coarsest_mask_of_at_least_half_the_picture_s_side(size, side):
    assert tiny(size=size, mask_side=HALF).mask_resolution == side


def test_heads_matter_only_where_there_are_any():
    for changes in ({"streams": "single"}, {"attention": "none"}, {"attention": "joint"}):
        check_encoder(tiny(heads=3, **changes))
        make_backbone(tiny(heads=3, **changes))


@pytest.mark.parametrize("newest", [2, 3])
def test_static_is_the_newest_frame_and_motion_the_two_residuals_newest_first(newest):
    frames = film(2, 5, seed=1)
    static, motion = DualStream.inputs(frames, newest)
    assert static.dtype == motion.dtype == torch.float32
    unit = frames.double() / 255.0
    for b in range(2):
        for channel in range(3):
            newer = unit[b, newest, channel] - unit[b, newest - 1, channel]
            older = unit[b, newest - 1, channel] - unit[b, newest - 2, channel]
            for found, expected in (
                (static[b, channel], unit[b, newest, channel]),
                (motion[b, channel], newer),
                (motion[b, 3 + channel], older),
            ):
                torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=1e-6)


def test_a_standing_picture_moves_nothing():
    frames = film(1, 4)[:, :1].expand(2, 4, 3, 4, 4)
    assert not DualStream.inputs(frames, 2)[1].any()


@pytest.mark.parametrize("fusion", ["bilinear", "concat"])
def test_the_neck_equals_its_layers_written_out(fusion):
    torch.manual_seed(0)
    neck = Neck(tiny(fusion=fusion))
    semantic, motion = torch.randn(3, 8, 8, 8), torch.randn(3, 8, 8, 8)
    fused, latent, other = neck(Features(semantic, motion, torch.zeros(3, 8, 8), None))

    def narrow(layers: nn.Sequential, maps: torch.Tensor) -> torch.Tensor:
        linear, norm = layers[1], layers[2]
        flat = maps.reshape(3, -1) @ linear.weight.T + linear.bias
        spread = ((flat - flat.mean(1, keepdim=True)) ** 2).mean(1, keepdim=True)
        return (flat - flat.mean(1, keepdim=True)) / torch.sqrt(spread + norm.eps) * norm.weight + norm.bias

    z_s, z_m = narrow(neck.semantic, semantic), narrow(neck.motion, motion)
    joint = nn.Bilinear.forward(neck.fuse, z_s, z_m) if fusion == "bilinear" else torch.cat([z_s, z_m], 1)
    torch.testing.assert_close(latent, z_m, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other, z_s, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fused, neck.norm(joint), atol=1e-5, rtol=1e-4)
    assert fused.shape == (3, 12)


def test_closed_gates_make_the_attention_the_identity():
    torch.manual_seed(0)
    attention = CrossAttention(8, 6, 2)
    semantic, motion, known = torch.randn(3, 2, 8, 6, 6)
    assert torch.equal(attention.gates, torch.zeros(2))
    seen, moved = given_mask(attention, semantic, motion, known)
    assert torch.equal(seen, semantic)
    assert torch.equal(moved, motion)
    # As a whole: whatever the mask, the streams are those of the encoder without attention.
    static, moving = pictures(2)
    encoder = DualStream(TINY)
    mask, use = torch.ones(2, 8, 8), torch.ones(2, dtype=torch.bool)
    assert torch.equal(encoder(static, moving, mask, use).motion, encoder.motion_stream(moving))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 2, 4]))
def test_attention_equals_a_loop_over_heads_and_tokens(seed, heads):
    torch.manual_seed(seed)
    channels, grid, batch = 8, 3, 2
    module = CrossAttention(channels, grid, heads).double()
    with torch.no_grad():
        module.gates.copy_(torch.tensor([0.8, -1.3]))
    semantic, motion, known = torch.randn(3, batch, channels, grid, grid).double()

    def tokens(maps: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
        rows = [[maps[b, :, n // grid, n % grid] for n in range(grid**2)] for b in range(batch)]
        return norm(torch.stack([torch.stack(row) for row in rows]) + module.position)

    def asks(part: nn.Module, asking: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        width = channels // heads
        found = torch.zeros_like(asking)
        for b in range(batch):
            query, both = part.query(asking[b]), part.key_value(asked[b])
            key, value = both[:, :channels], both[:, channels:]
            for head in range(heads):
                own = slice(head * width, (head + 1) * width)
                for n in range(grid**2):
                    scores = torch.stack([query[n, own] @ key[m, own] / math.sqrt(width) for m in range(grid**2)])
                    weights = scores.exp() / scores.exp().sum()
                    found[b, n, own] = sum(w * value[m, own] for m, w in enumerate(weights))
        return part.output(found)

    motion_tokens, known_tokens = tokens(motion, module.motion_norm), tokens(known, module.known_norm)
    delta = 0.8 * asks(module.motion_asks, motion_tokens, known_tokens)
    delta = delta - 1.3 * asks(module.known_asks, known_tokens, motion_tokens)
    expected = motion.clone()
    for n in range(grid**2):
        expected[:, :, n // grid, n % grid] += delta[:, n]
    seen, moved = given_mask(module, semantic, motion, known)
    assert torch.equal(seen, semantic)
    torch.testing.assert_close(moved, expected)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([3, 8]))
def test_joint_attention_equals_a_loop_over_cells(seed, channels):
    """Also with a number of channels that 4 does not divide; maps enter in either memory format."""
    torch.manual_seed(seed)
    grid, batch = 2, 2
    count = grid * grid
    module = JointAttention(channels, grid).double()
    semantic, motion, known = torch.randn(3, batch, channels, grid, grid).double()

    def cell(convolution: nn.Conv2d, maps: torch.Tensor, b: int, n: int) -> torch.Tensor:
        return convolution.weight[:, :, 0, 0] @ maps[b, :, n // grid, n % grid] + convolution.bias

    def softmax(values: list[torch.Tensor]) -> list[torch.Tensor]:
        return [value.exp() / sum(other.exp() for other in values) for value in values]

    expected = [semantic.clone(), motion.clone()]
    for b in range(batch):
        joint = []
        for n in range(count):
            query = cell(module.query, known, b, n)
            one = softmax([query @ cell(module.semantic_key, semantic, b, m) for m in range(count)])
            two = softmax([query @ cell(module.motion_key, motion, b, m) for m in range(count)])
            joint.append(softmax([x + y for x, y in zip(one, two, strict=True)]))
        for stream, value, change, out in (
            (semantic, module.semantic_value, module.semantic_change, expected[0]),
            (motion, module.motion_value, module.motion_change, expected[1]),
        ):
            gathered = [sum(joint[n][m] * cell(value, stream, b, m) for m in range(count)) for n in range(count)]
            flat = torch.stack(gathered, 1).flatten()  # channel by channel, as a map is flattened
            narrow = (change[0].weight @ flat + change[0].bias).clamp_min(0)
            out[b] += (change[2].weight @ narrow + change[2].bias).view(channels, grid, grid)
    last = torch.channels_last
    for given_maps in (
        (semantic, motion, known),
        [maps.contiguous(memory_format=last) for maps in (semantic, motion, known)],
    ):
        for found, wanted in zip(given_mask(module, *given_maps), expected, strict=True):
            torch.testing.assert_close(found, wanted)


def test_with_open_gates_the_mask_changes_motion_and_nothing_else():
    torch.manual_seed(0)
    encoder = open_gates(DualStream(TINY))
    static, moving = pictures(2)
    use = torch.ones(2, dtype=torch.bool)
    empty, full = (encoder(static, moving, torch.full((2, 8, 8), value), use) for value in (0.0, 1.0))
    assert torch.equal(empty.semantic, full.semantic)
    assert torch.equal(empty.student, full.student)
    assert not torch.allclose(empty.motion, full.motion)


def test_the_student_s_mask_reaches_the_attention_without_gradient():
    torch.manual_seed(0)
    encoder = open_gates(DualStream(TINY))
    static, moving = pictures(2)
    encoder(static, moving).motion.square().sum().backward()
    assert all(parameter.grad is None for parameter in encoder.student_head.parameters())
    assert all(parameter.grad is None for parameter in encoder.semantic_stream.parameters())
    for part in (encoder.motion_stream, encoder.mask_encoder, encoder.attention):
        assert all(parameter.grad.abs().sum() > 0 for name, parameter in part.named_parameters() if "bias" not in name)


def test_the_cached_mask_is_used_exactly_where_told():
    torch.manual_seed(0)
    encoder = open_gates(DualStream(TINY)).eval()
    static, moving = pictures(4)
    cached = torch.rand(4, 8, 8)
    use = torch.tensor([True, False, True, False])
    mixed = encoder(static, moving, cached, use)
    all_cached = encoder(static, moving, cached, torch.ones(4, dtype=torch.bool))
    own = encoder(static, moving)
    for b in range(4):
        wanted, other = (all_cached, own) if use[b] else (own, all_cached)
        torch.testing.assert_close(mixed.motion[b], wanted.motion[b])
        assert not torch.allclose(mixed.motion[b], other.motion[b])
    # Giving the student's own mask as the cached one makes no difference: both enter alike (design.md §7.1).
    same = encoder(static, moving, own.student.sigmoid(), torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(same.motion, own.motion)


def test_no_attention_ignores_the_mask():
    encoder = DualStream(tiny(attention="none"))
    assert isinstance(encoder.attention, NoAttention)
    static, moving = pictures(2)
    masked = encoder(static, moving, torch.ones(2, 8, 8), torch.ones(2, dtype=torch.bool))
    assert torch.equal(masked.motion, encoder(static, moving).motion)


def test_joint_attention_lets_the_mask_change_both_streams_but_not_the_student():
    torch.manual_seed(0)
    encoder = DualStream(tiny(attention="joint"))
    static, moving = pictures(2)
    use = torch.ones(2, dtype=torch.bool)
    empty, full = (encoder(static, moving, torch.full((2, 8, 8), value), use) for value in (0.0, 1.0))
    assert torch.equal(empty.student, full.student)
    assert not torch.allclose(empty.semantic, full.semantic)
    assert not torch.allclose(empty.motion, full.motion)


def without(
    settings_: EncoderSettings, own: DualStream, part: str, replacement: nn.Module
) -> tuple[DualStream, DualStream]:
    """An encoder made by its settings, and another with the same weights and one module replaced."""
    made = DualStream(settings_)
    made.load_state_dict({name: value for name, value in own.state_dict().items() if name in made.state_dict()})
    setattr(own, part, replacement)
    return made, own


@pytest.mark.parametrize(
    ("changes", "part", "replacement"),
    [
        ({"silent": "semantic"}, "semantic_shown", Silence()),
        ({"silent": "motion"}, "motion_shown", Silence()),
        ({"attention": "none"}, "attention", NoAttention()),
        ({"mask": "zeros"}, "mask_source", EmptyMask()),
        ({"mask": "cached"}, "mask_source", StudentMask()),
    ],
)
def test_what_settings_leave_out_is_a_module_put_in_its_place(changes, part, replacement):
    """Whatever was there before: the outputs, with and without a cached mask, are those of the setting."""
    torch.manual_seed(0)
    before = open_gates(DualStream(tiny(mask="zeros" if isinstance(replacement, StudentMask) else "student")))
    assert type(getattr(before, part)) is not type(replacement)
    made, own = without(tiny(**changes), before, part, replacement)
    assert type(getattr(made, part)) is type(replacement)
    static, moving = pictures(3)
    for masks in ((), (torch.rand(3, 8, 8), torch.tensor([True, False, True]))):
        for one, two in zip(made(static, moving, *masks), own(static, moving, *masks), strict=True):
            assert (one is None) == (two is None)
            if one is not None:
                torch.testing.assert_close(one, two)


def test_a_silent_stream_is_silent_to_all_but_the_student():
    torch.manual_seed(0)
    static, moving = pictures(2)
    whole = open_gates(DualStream(TINY))
    expected, mask = whole(static, moving), torch.ones(2, 8, 8)
    for silent in ("semantic", "motion"):
        encoder = DualStream(tiny(silent=silent, attention="none"))
        encoder.load_state_dict(whole.state_dict(), strict=False)
        found = encoder(static, moving, mask, torch.ones(2, dtype=torch.bool))
        assert not getattr(found, silent).any()
        other = "motion" if silent == "semantic" else "semantic"
        stream = getattr(encoder, f"{other}_stream")(static if other == "semantic" else moving)
        torch.testing.assert_close(getattr(found, other), stream)
        torch.testing.assert_close(found.student, expected.student)


def test_stand_ins_have_no_weights():
    """Else a policy's file and a checkpoint would not fit what they are put in the place of."""
    for module in (Silence(), EmptyMask(), StudentMask(), NoAttention()):
        assert not module.state_dict()


@pytest.mark.parametrize("mask", ["student", "cached", "zeros"])
def test_what_stands_in_where_no_mask_is_cached(mask):
    torch.manual_seed(0)
    encoder = open_gates(DualStream(tiny(mask=mask)))
    static, moving = pictures(3)
    own = encoder(static, moving)
    stand_in = torch.zeros_like(own.student) if mask == "zeros" else own.student.sigmoid()
    everywhere, nowhere = torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
    given_it = encoder(static, moving, stand_in, everywhere)
    torch.testing.assert_close(own.motion, given_it.motion)
    torch.testing.assert_close(own.known, encoder.mask_encoder(stand_in[:, None]))
    assert torch.equal(own.motion, encoder(static, moving, torch.rand(3, 8, 8), nowhere).motion)
    # A cached mask serves under each setting.
    assert not torch.allclose(own.motion, encoder(static, moving, torch.ones(3, 8, 8), everywhere).motion)


def test_the_single_stream_is_its_layers_on_the_stack_of_three_frames():
    torch.manual_seed(0)
    encoder = make_backbone(tiny(streams="single"))
    assert isinstance(encoder, SingleStream)
    frames = film(2)
    for newest in (2, 3):
        (stack,) = encoder.inputs(frames, newest)
        for place in range(3):
            expected = frames[:, newest - 2 + place].double() / 255.0
            found = stack[:, 3 * place : 3 * place + 3].double()
            torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6)
        found = stack
        for layer in encoder.stream:
            if isinstance(layer, nn.Conv2d):
                found = nn.functional.conv2d(found, layer.weight, layer.bias, layer.stride, layer.padding).clamp_min(0)
        features = encoder(stack, torch.rand(2, 8, 8), torch.ones(2, dtype=torch.bool))
        torch.testing.assert_close(features.semantic, found)
        assert torch.equal(features.semantic, features.motion)
        assert features.known is None
        head = encoder.student_head
        torch.testing.assert_close(
            features.student, torch.einsum("c,bchw->bhw", head.weight[0, :, 0, 0], found) + head.bias
        )
        neck = make_neck(tiny(streams="single"))
        assert isinstance(neck, SingleNeck)
        z, again, _ = neck(features)
        flat = nn.functional.linear(found.flatten(1), neck.latent[1].weight, neck.latent[1].bias)
        centred = flat - flat.mean(1, keepdim=True)
        torch.testing.assert_close(z, centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt())
        assert torch.equal(z, again)
        assert z.shape == (2, 12)  # as wide as the fused latent of two streams


@pytest.mark.parametrize("size", [21, 36, 64, 102, 128])
def test_both_encoders_have_the_same_convolutions_but_for_the_first_layer_s_inputs(size):
    dual, single = (make_backbone(tiny(size=size, streams=streams)) for streams in ("dual", "single"))
    layers = [[layer for layer in stream if isinstance(layer, nn.Conv2d)] for stream in
              (dual.semantic_stream, dual.motion_stream, single.stream)]  # fmt: skip
    for rows in zip(*layers, strict=True):
        assert len({(row.out_channels, row.kernel_size, row.stride, row.padding) for row in rows}) == 1
    assert [rows[0].in_channels for rows in layers] == [3, 6, 9]


@pytest.mark.parametrize("attention", ["cross", "joint"])
def test_bf16_gives_fp32_features_near_those_of_fp32(attention):
    torch.manual_seed(0)
    plain = DualStream(tiny(attention=attention))
    if attention == "cross":
        open_gates(plain)
    half = DualStream(tiny(attention=attention, precision="bf16"))
    half.load_state_dict(plain.state_dict())
    static, moving = pictures(2)
    cached, use = torch.rand(2, 8, 8), torch.tensor([True, False])
    for exact, rough in zip(plain(static, moving, cached, use), half(static, moving, cached, use), strict=True):
        assert rough.dtype == torch.float32
        assert not torch.equal(exact, rough)
        torch.testing.assert_close(exact, rough, atol=0.05 * float(exact.detach().abs().max()), rtol=0.1)


@pytest.mark.parametrize("size", [32, 64, 84])
def test_streams_start_alive(size):
    torch.manual_seed(0)
    encoder = DualStream(tiny(size=size))
    features = encoder(*pictures(4, size))
    assert (features.semantic > 0).any(0).float().mean() > 0.3
    assert (features.motion > 0).any(0).float().mean() > 0.3


# Masks finer than the grid, and the mask's own latent


APART = tiny(mask_path="concat", fusion="concat", mask_side=32)


@pytest.mark.parametrize("size", [32, 36, 64, 84, 128])
@pytest.mark.parametrize("path", ["gated", "concat"])
def test_masks_of_every_side_that_is_offered_go_in_and_come_out(size, path):
    grid = geometry(size).grid
    sides = [grid * 2**doublings for doublings in range(8) if grid * 2**doublings <= size]
    static, moving = pictures(2, size)
    for side in (0, *sides):
        chosen = tiny(size=size, mask_side=side, mask_path=path, fusion="concat")
        check_encoder(chosen)
        cells = chosen.mask_resolution
        assert cells == (side or grid)
        encoder = open_gates(DualStream(chosen))
        features = encoder(static, moving, torch.rand(2, cells, cells), torch.ones(2, dtype=torch.bool))
        assert features.student.shape == (2, cells, cells)
        assert features.known.shape == features.motion.shape == (2, 8, grid, grid)
        assert make_neck(chosen)(features).fused.shape == (2, chosen.fused)


def test_masks_of_the_grid_s_side_by_number_are_those_of_0():
    agents = []
    for side in (0, geometry(TINY.size).grid):
        torch.manual_seed(0)
        agents.append(DualStream(tiny(mask_side=side)).state_dict())
    assert agents[0].keys() == agents[1].keys()
    assert all(torch.equal(value, agents[1][name]) for name, value in agents[0].items())


def test_the_width_of_z_counts_the_mask_s_latent_where_there_is_one():
    assert (TINY.fused, APART.fused) == (12, 18)
    single = tiny(mask_path="concat", streams="single")
    check_encoder(single)  # a preset may say so for all methods
    assert single.fused == 12
    assert not single.reads_mask
    assert [tiny(attention=each).reads_mask for each in ("cross", "joint", "none")] == [True, True, False]
    assert tiny(attention="none", mask_path="concat").reads_mask


@pytest.mark.parametrize("attention", ["none", "cross", "joint"])
def test_the_mask_s_latent_stands_in_z_whatever_the_attention(attention):
    """z is the LayerNorm of three latents; with the gates shut only the third can move with the mask."""
    torch.manual_seed(0)
    chosen = tiny(**{**vars(APART), "attention": attention})
    encoder, neck = DualStream(chosen), Neck(chosen)
    static, moving = pictures(3)
    found, use = [], torch.ones(3, dtype=torch.bool)
    for mask in (torch.zeros(3, 32, 32), torch.zeros(3, 32, 32).index_fill(2, torch.arange(5, 9), 1.0)):
        features = encoder(static, moving, mask, use)
        torch.testing.assert_close(features.known, encoder.mask_encoder(mask[:, None]))
        torch.testing.assert_close(encoder.known(mask), features.known)
        parts = [neck.semantic(features.semantic), neck.motion(features.motion), neck.known(features.known)]
        torch.testing.assert_close(neck(features).fused, neck.norm(torch.cat(parts, 1)))
        found.append(parts)
    moved = [not torch.equal(one, two) for one, two in zip(*found, strict=True)]
    assert moved == [attention == "joint", attention == "joint", True]


def test_the_student_s_mask_reaches_its_latent_without_gradient():
    torch.manual_seed(0)
    chosen = tiny(**{**vars(APART), "attention": "none"})
    encoder, neck = DualStream(chosen), Neck(chosen)
    neck.known(encoder(*pictures(2)).known)[:, 0].sum().backward()
    assert all(value.grad.abs().sum() > 0 for name, value in encoder.mask_encoder.named_parameters())
    others = [*encoder.student_head.parameters(), *encoder.semantic_stream.parameters()]
    assert all(value.grad is None for value in others)


def test_behind_gates_a_finer_mask_is_what_its_largest_cells_are():
    torch.manual_seed(0)
    fine = open_gates(DualStream(tiny(mask_side=32)))
    coarse = open_gates(DualStream(TINY))
    coarse.load_state_dict(
        {
            name.replace("mask_encoder.3", "mask_encoder.2").replace("mask_encoder.1", "mask_encoder.0"): value
            for name, value in fine.state_dict().items() if not name.startswith("student_head")
        },
        strict=False,
    )  # fmt: skip
    static, moving = pictures(2)
    mask, use = torch.rand(2, 32, 32), torch.ones(2, dtype=torch.bool)
    pooled = torch.stack([mask[:, 4 * n : 4 * n + 4].amax(1) for n in range(8)], 1)
    pooled = torch.stack([pooled[:, :, 4 * n : 4 * n + 4].amax(2) for n in range(8)], 2)
    torch.testing.assert_close(fine(static, moving, mask, use).motion, coarse(static, moving, pooled, use).motion)


@pytest.mark.parametrize(("size", "side", "layer"), [(64, 16, 1), (64, 32, 1), (64, 64, 0), (128, 48, 1), (84, 28, 1)])
def test_the_decoder_reads_the_deepest_map_that_is_fine_enough(size, side, layer):
    torch.manual_seed(0)
    chosen = tiny(size=size, mask_side=side)
    head = DualStream(chosen).student_head
    assert isinstance(head, MaskDecoder)
    assert head.early == 2 * layer + 1  # behind the ReLU of that convolution
    assert head.fine.in_channels == chosen.channels[layer]


def test_the_student_tells_places_apart_that_share_a_cell_of_the_grid():
    """One pixel's change moves the finer logits near it more than the far ones of the same cell."""
    torch.manual_seed(0)
    encoder = DualStream(tiny(size=64, mask_side=32))
    picture = torch.rand(1, 3, 64, 64)
    other = picture.clone()
    other[:, :, 32:34, 32:34] += 1.0
    (_, one), (_, two) = (watched(encoder.semantic_stream, encoder.student_head, each) for each in (picture, other))
    apart = (one - two).abs()[0, 16:20, 16:20]
    assert apart.max() > 2 * apart.min()
