"""A policy acting under a variant: that it is the same policy, and that exactly what the variant says is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_agent import GATED, GRID, SIZE, make_agent
from tiny_agent import TINY as TINY_AGENT

from semore.annotate.audit.truth import true_grids
from semore.collect.env import DrivingEnv
from semore.collect.policies import load_policy, make_policy
from semore.collect.recorder import record
from semore.datasets.atomic_io import write_json
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import rows_of
from semore.datasets.knowledge.cache import KnowledgeCache, SetManifest, ensure_set
from semore.datasets.mask_variants import replaced
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.settings import as_dict
from semore.evaluate.counterfactual.__main__ import TRAINED, CounterfactualSettings, _every_change, training
from semore.evaluate.counterfactual.policies import (
    VARIANTS,
    CounterfactualCourse,
    CounterfactualPolicy,
    Variant,
    attention_gates,
    refuse,
    true_mask,
)
from semore.evaluate.counterfactual.variants import fitting
from semore.evaluate.episodes import evaluate_policies
from semore.evaluate.sweep.points import Point, settings_of
from semore.train.actor import Learner
from semore.train.agent import Agent
from semore.train.checkpoint import export_policy
from semore.train.online import policy_view
from semore.train.pictures import stacked
from semore.train.settings import TrainSettings
from study.plan import changed

pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning")
SETTINGS = TrainSettings(run="run", agent=TINY_AGENT)
GATES = (0.7, -0.4)


@pytest.fixture(scope="module")
def run(tmp_path_factory, one_thread) -> tuple[Path, Learner]:
    """A finished run whose attention is open, and its agent."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    agent = make_agent(gates=GATES)
    export_policy(agent, folder / "policy.pt2", policy_view(SETTINGS))
    write_json(folder / "settings.json", {"settings": as_dict(SETTINGS)})
    return folder, agent.eval()


@pytest.fixture(scope="module")
def seen() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 9, SIZE, SIZE), np.uint8)


def act(folder: Path, variant: Variant, seen: np.ndarray, seeds=(7, 8, 9)) -> np.ndarray:
    policy = CounterfactualPolicy(folder, variant)
    policy.start(seeds)
    return policy.act(range(len(seen)), seen, [{}] * len(seen))


def means(agent: Learner, seen: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return torch.tanh(agent(torch.from_numpy(seen))[0]).numpy()


CONCAT = replace(TINY_AGENT.encoder, mask_path="concat", fusion="concat", mask_side=16)


def altered(agent: Learner, **changes) -> Learner:
    """The same weights in an encoder of other settings, as far as it has a place for them."""
    settings = replace(agent.settings, encoder=replace(agent.settings.encoder, **changes))
    other = Agent(settings).eval()
    other.load_state_dict(agent.state_dict(), strict=False)
    return other


def test_without_a_change_it_is_the_exported_policy(run, seen):
    exported = load_policy(run[0])
    exported.start([7, 8, 9])
    np.testing.assert_allclose(act(run[0], Variant(), seen), exported.act(range(3), seen, [{}] * 3), atol=1e-6)


def test_an_empty_mask_is_the_public_codes_zeros(run, seen):
    np.testing.assert_allclose(act(run[0], VARIANTS["empty_mask"], seen), means(altered(run[1], mask="zeros"), seen))


def test_no_attention_is_gates_of_0_and_the_setting_of_training(run, seen):
    shut = altered(run[1])
    with torch.no_grad():
        shut.backbone.attention.gates.zero_()
    without = act(run[0], VARIANTS["no_attention"], seen)
    np.testing.assert_allclose(without, means(shut, seen), atol=1e-6)
    np.testing.assert_allclose(without, means(altered(run[1], attention="none"), seen), atol=1e-6)
    assert np.abs(without - means(run[1], seen)).max() > 1e-5


@pytest.mark.parametrize("stream", ["semantic", "motion"])
def test_a_stream_left_out_is_the_setting_of_training(run, seen, stream):
    expected = means(altered(run[1], silent=stream), seen)
    np.testing.assert_allclose(act(run[0], VARIANTS[f"no_{stream}_stream"], seen), expected, atol=1e-6)
    assert np.abs(expected - means(run[1], seen)).max() > 1e-4


def test_a_silent_stream_says_nothing_and_the_student_still_sees(run, seen):
    for stream in ("semantic", "motion"):
        backbone = altered(run[1], silent=stream, attention="none" if stream == "motion" else "cross").backbone
        inputs = backbone.inputs(stacked(torch.from_numpy(seen)), 2)
        features = backbone(*inputs)
        assert not getattr(features, stream).any()
        torch.testing.assert_close(features.student, run[1].backbone(*inputs).student)


@pytest.mark.parametrize("name", ["inverted_mask", "shuffled_mask", "empty_mask"])
def test_another_mask_is_as_if_it_were_cached(run, seen, name):
    """In the place of the student's, and of nothing else; it changes what an open attention does."""
    agent, seeds = run[1], (7, 8, 9)
    with torch.inference_mode():
        own = agent(torch.from_numpy(seen))[2].numpy()
        generators = (np.random.default_rng([seed, 0xC0F]) for seed in seeds)
        mask = torch.from_numpy(replaced(own, VARIANTS[name].mask, generators, full=1))
        inputs = agent.backbone.inputs(stacked(torch.from_numpy(seen)), 2)
        features = agent.backbone(*inputs, mask, torch.ones(len(mask), dtype=torch.bool))
        expected = torch.tanh(agent.policy(features)[0]).numpy()
    np.testing.assert_allclose(act(run[0], VARIANTS[name], seen, seeds), expected, atol=1e-6)
    assert np.abs(expected - means(agent, seen)).max() > 1e-6


def test_the_simulators_mask_takes_the_student_s_place(run, seen, tmp_path):
    """As if cached; of each environment its own, in whatever order they are asked."""
    env = DrivingEnv("JayWalk", size=SIZE, frame_skip=2)
    infos = [env.reset(seed=seed)[1] for seed in (3, 4, 5)]
    env.close()
    policy, agent = CounterfactualPolicy(run[0], VARIANTS["true_mask"]), run[1]
    policy.start([3, 4, 5])
    for slots in ([0, 1, 2], [2, 0]):
        mask = torch.from_numpy(np.stack([true_mask(infos[slot], GRID) for slot in slots]))
        with torch.inference_mode():
            inputs = agent.backbone.inputs(stacked(torch.from_numpy(seen[slots])), 2)
            features = agent.backbone(*inputs, mask, torch.ones(len(mask), dtype=torch.bool))
            expected = torch.tanh(agent.policy(features)[0]).numpy()
        found = policy.act(slots, seen[slots], [infos[slot] for slot in slots])
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_shuffling_goes_by_the_episodes_seed_and_not_by_its_company(run, seen):
    shuffled = VARIANTS["shuffled_mask"]
    together = act(run[0], shuffled, seen, (7, 8, 9))
    np.testing.assert_allclose(act(run[0], shuffled, seen[1:2], (8,))[0], together[1], atol=1e-6)
    assert np.abs(act(run[0], shuffled, seen, (1, 2, 3)) - together).max() > 1e-7


def test_the_gates_are_told(run):
    assert "+0.700 for what motion asks" in attention_gates(run[0])


def test_networks_without_what_is_changed_are_refused():
    encoder = TINY_AGENT.encoder
    with pytest.raises(SemoreError, match="one stream"):
        refuse(replace(encoder, streams="single"), VARIANTS["empty_mask"])
    with pytest.raises(SemoreError, match="trained without attention"):
        refuse(replace(encoder, attention="none"), VARIANTS["true_mask"])
    refuse(replace(encoder, attention="none"), VARIANTS["no_motion_stream"])


@pytest.fixture(scope="module")
def apart(tmp_path_factory, one_thread) -> tuple[Path, Learner]:
    """A finished run whose mask has a latent of its own, beside an open attention."""
    folder = tmp_path_factory.mktemp("runs") / "apart"
    folder.mkdir()
    settings = replace(SETTINGS, agent=replace(TINY_AGENT, encoder=CONCAT))
    agent = make_agent(gates=GATES, settings=settings.agent)
    export_policy(agent, folder / "policy.pt2", policy_view(settings))
    write_json(folder / "settings.json", {"settings": as_dict(settings)})
    return folder, agent.eval()


@pytest.mark.slow
def test_a_mask_with_a_latent_of_its_own_is_changed_and_taken_away_there_too(apart, seen):
    folder, agent = apart
    trained = act(folder, Variant(), seen)
    np.testing.assert_allclose(trained, means(agent, seen), atol=1e-6)
    empty = act(folder, VARIANTS["empty_mask"], seen)
    np.testing.assert_allclose(empty, means(altered(agent, mask="zeros"), seen), atol=1e-6)
    no_attention = act(folder, VARIANTS["no_attention"], seen)
    np.testing.assert_allclose(no_attention, means(altered(agent, attention="none"), seen), atol=1e-6)
    # Without the attention the mask still reaches the policy; without its path, no mask does.
    inverted = Variant("inverted", attention=False)
    assert np.abs(act(folder, inverted, seen) - no_attention).max() > 1e-5
    nothing = act(folder, VARIANTS["no_mask_path"], seen)
    np.testing.assert_array_equal(act(folder, VARIANTS["no_mask_path"]._replace(mask="inverted"), seen), nothing)
    assert np.abs(nothing - no_attention).max() > 1e-5
    assert "the mask reaches the policy beside it" in attention_gates(folder)


def test_only_variants_of_paths_that_the_mask_takes_are_driven():
    encoder = TINY_AGENT.encoder
    assert set(VARIANTS) - set(fitting(encoder)) == {"no_mask_path"}
    assert set(fitting(CONCAT)) == set(VARIANTS)
    bare = replace(CONCAT, attention="none")
    assert set(VARIANTS) - set(fitting(bare)) == {"no_attention"}
    for each in (encoder, CONCAT, bare):
        for name in fitting(each):
            refuse(each, VARIANTS[name])
    with pytest.raises(SemoreError, match=r"by the attention alone .* choose --variants no_attention"):
        refuse(encoder, VARIANTS["no_mask_path"])
    with pytest.raises(SemoreError, match=r"a path of its own.*: choose --variants no_mask_path"):
        refuse(bare, VARIANTS["no_attention"])
    with pytest.raises(SemoreError, match="trained without attention, so no mask"):
        refuse(replace(encoder, attention="none"), VARIANTS["no_mask_path"])


def test_the_true_mask_is_that_of_privileged_annotation(tmp_path):
    """Of the walkers ahead, as recorded and as an environment's info shows them."""
    shown: list[np.ndarray] = []
    driver = make_policy("driver")

    class Watching:
        def start(self, seeds):
            driver.start(seeds)

        def act(self, slots, observations, infos):
            shown.append(true_mask(infos[0], GRID))
            return driver.act(slots, observations, infos)

    rollouts = Rollouts(tmp_path / "seen.zarr")
    rollouts.create()
    env = DrivingEnv("JayWalk", frame_skip=2, max_episode_steps=20)
    (name,) = record(rollouts, [env], Watching(), [3], {"policy": "driver", "action_repeat": 2})
    env.close()
    episode = rollouts.episode(name)
    expected = true_grids(episode, rows_of(episode, 2)[:-1], GRID)
    assert expected.any()
    assert (np.stack(shown) * 255 == expected).all()


@pytest.mark.slow
def test_rows_are_driven_once_and_the_policy_as_it_is_among_them(run, tmp_path):
    course = CounterfactualCourse(run[0], "HighBeam", "", "published", "embedded")
    names, seeds, table = ("trained", *fitting(TINY_AGENT.encoder)), range(2_000_000, 2_000_002), tmp_path / "rows.csv"
    rows = evaluate_policies(course, names, seeds, table, 2)
    assert [row.policy for row in rows] == [name for name in names for _ in seeds]
    before = table.stat().st_mtime_ns
    assert evaluate_policies(course, names, seeds, table, 2) == rows
    assert table.stat().st_mtime_ns == before


def test_training_variants_are_sound_runs_of_their_own():
    found = {
        name: settings_of("debug", "JayWalk", [], Point((("variant", name),), changes))
        for name, changes in TRAINED.items()
        if name in ("plain", "shuffled_mask", "privileged_mask", "no_mask_path")
    }
    found |= {name: changed(found["plain"], dict(changes)) for name, changes in TRAINED.items() if name not in found}
    for settings in found.values():
        settings.validate()
    assert found["shuffled_mask"].masks == "shuffled"
    assert found["privileged_mask"].knowledge == "privileged"
    assert found["no_semantic_stream"].agent.encoder.silent == "semantic"
    agents = {name: settings.agent for name, settings in found.items()}
    assert {name for name, agent in agents.items() if not agent.encoder.reads_mask} == {"no_mask_path"}
    assert all(agent.teaches_mask for agent in agents.values())
    assert agents["no_attention"].encoder.concatenates_mask
    assert len({str(settings) for settings in found.values()}) == len(TRAINED)
    assert _every_change(found["plain"]) == [*TRAINED][1:]
    # Behind gates a run without attention is one without a mask path.
    gated = changed(found["plain"], {f"agent.encoder.{name}": value for name, value in GATED.items()})
    assert _every_change(gated) == [name for name in TRAINED if name not in ("plain", "no_mask_path")]


def test_a_missing_knowledge_set_is_named_before_anything_is_trained(tmp_path):
    ensure_set(
        KnowledgeCache(tmp_path / "knowledge"), "privileged-cris-tiny", SetManifest({"id": "d"}, {"id": "s"}, None)
    )
    settings = CounterfactualSettings(
        preset="debug",
        base=(f"data={tmp_path}",),
        runs=str(tmp_path / "runs"),
        train=True,
        variants=("privileged_mask",),
    )
    with pytest.raises(SemoreError, match=r"semore annotate .*--knowledge privileged.* --segmenter privileged"):
        training(settings)
    assert not (tmp_path / "runs").exists()


def test_unknown_variants_are_refused():
    with pytest.raises(SemoreError, match=r"unknown variants \['blurred_mask'\]; choose from empty_mask"):
        CounterfactualSettings(variants=("blurred_mask",)).validate()
