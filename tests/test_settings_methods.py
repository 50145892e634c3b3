"""METHOD=: what each file of presets/methods gives, what beats what, and which agents are refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from semore.datasets.errors import SemoreError
from semore.datasets.presets import PRESETS, flat, method_path, preset_section
from semore.datasets.settings import as_dict, from_dict, load_settings
from semore.train.agent import Agent, make_agent
from semore.train.agent_settings import AUXILIARIES, AgentSettings, check
from semore.train.cloning import CloningAgent
from semore.train.encoder_settings import EncoderSettings
from semore.train.learner import Learner
from semore.train.settings import TrainSettings


@cache
def loaded(*words: str) -> TrainSettings:
    return load_settings(TrainSettings, "train", words)


SEMORE = {
    "objective": "sac", "auxiliaries": ["transition", "reward", "semantic"], "transition_latent": "motion", "shifts": 0,
    "semantic_loss": "balanced_bce", **{f"{name}_weight": 1.0 for name in AUXILIARIES},
    "encoder.streams": "dual", "encoder.attention": "cross", "encoder.mask": "own",
    "encoder.mask_side": -1, "encoder.mask_path": "concat",
}  # fmt: skip
SAC = {
    "encoder.streams": "single", "encoder.mask": "student", "encoder.mask_side": 0, "encoder.mask_path": "gated",
    "auxiliaries": [],
}  # fmt: skip
INTENDED = {
    "semore": {},
    "sac": SAC,
    "deepmdp": {**SAC, "auxiliaries": ["transition", "reward"]},
    "drq": {**SAC, "shifts": 2},
    "curl": {**SAC, "shifts": 1, "auxiliaries": ["contrast"]},
    "sac-segmentation": {**SAC, "encoder.mask_side": -1, "auxiliaries": ["semantic"]},
    "cloning": {**SAC, "objective": "cloning"},
}
"""What each method's file gives, and so what its agent has."""


def test_there_is_a_file_for_each_method_and_no_other():
    assert {path.stem for path in (PRESETS / "methods").iterdir()} == set(INTENDED)


@pytest.mark.parametrize("method", INTENDED)
def test_a_method_s_file_gives_its_parts_and_leaves_the_rest_as_semore_has_it(method):
    """Same convolutions, data and schedule: a rival differs in its method alone."""
    settings = loaded("--method", method)
    settings.validate()
    assert settings.method == method
    assert settings.folder.name == ("JayWalk-laptop" if method == "semore" else f"JayWalk-laptop-{method}")
    semore = dict(flat(as_dict(loaded("--method", "semore"))))
    expected = {**{f"agent.{name}": value for name, value in SEMORE.items()}}
    expected |= {f"agent.{name}": value for name, value in INTENDED[method].items()}
    expected |= {"method": method, "replay.admission": "recommended" if method == "semore" else "off"}
    assert dict(flat(as_dict(settings))) == semore | expected


def test_semore_is_the_default_and_a_method_goes_with_every_preset():
    assert loaded() == loaded("--method", "semore")
    paper = loaded("--preset", "paper", "--method=drq")
    assert (paper.agent.lr, paper.agent.encoder.size, paper.agent.shifts) == (1e-4, 128, 2)
    assert loaded("--method", "drq", "--method", "sac") == loaded("--method", "sac")  # the last one counts whole


@pytest.mark.parametrize("method", INTENDED)
def test_preset_scratch_goes_with_every_method_and_is_online_without_imitation(method):
    settings = loaded("--preset", "scratch", "--method", method)
    settings.validate()
    assert settings.schedule.cloning == 0.0
    assert settings.schedule.refresh_decisions == settings.schedule.refresh_every  # one decision per update
    agent = agent_of(settings.agent)
    assert type(agent) is (CloningAgent if method == "cloning" else Agent)
    assert settings.agent.encoder.concatenates_mask == (method == "semore")


@pytest.mark.parametrize("preset", ["debug", "laptop", "scratch", "paper"])
@pytest.mark.parametrize("method", ["semore", "sac-segmentation"])
def test_masks_have_at_least_half_the_side_of_every_preset_s_pictures(preset, method):
    encoder = loaded("--preset", preset, "--method", method).agent.encoder
    assert encoder.size <= 2 * encoder.mask_resolution <= 2 * encoder.size


@pytest.fixture
def preset(tmp_path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text("train: {method: drq, seed: 7, agent: {shifts: 1, auxiliaries: [reward], gamma: 0.9}}")
    return str(path)


def test_the_method_beats_the_preset_and_the_command_line_beats_both(preset, tmp_path):
    drq = load_settings(TrainSettings, "train", ["--preset", preset])
    assert drq.method == "drq"  # a preset may name its method
    assert (drq.agent.shifts, drq.agent.auxiliaries, drq.agent.gamma, drq.seed) == (2, (), 0.9, 7)
    semore = load_settings(TrainSettings, "train", ["--preset", preset, "--method", "semore"])
    assert semore.agent.shifts == 1  # of which semore's file says nothing
    assert semore.agent.auxiliaries == ("transition", "reward", "semantic")
    (tmp_path / "over.yaml").write_text("agent: {shifts: 1}")
    config = ["--config", str(tmp_path / "over.yaml")]
    assert load_settings(TrainSettings, "train", ["--preset", preset, *config]).agent.shifts == 1
    words = ["--agent.shifts=0", "--preset", preset, "--agent.gamma=0.8", "--agent.auxiliaries=[transition,reward]"]
    over = load_settings(TrainSettings, "train", words)
    assert (over.agent.shifts, over.agent.gamma, over.agent.encoder.streams) == (0, 0.8, "single")
    assert over.agent.auxiliaries == ("transition", "reward")


def test_a_method_brings_its_parts_wherever_it_is_named(tmp_path):
    path = tmp_path / "over.yaml"
    path.write_text("{method: sac, agent: {reward_weight: 0.5}}")
    sac = loaded("--method", "sac", "--agent.reward_weight=0.5")
    assert load_settings(TrainSettings, "train", ["--config", str(path)]) == sac
    assert from_dict(TrainSettings, {"method": "sac", "agent": {"reward_weight": 0.5}}) == sac
    drq = load_settings(TrainSettings, "train", ["--config", str(path), "--method", "drq"])
    assert drq == loaded("--method", "drq", "--agent.reward_weight=0.5")  # the command line's counts


def test_an_unknown_method_names_the_choices():
    with pytest.raises(SemoreError, match="unknown method 'dreamer'; choose one of cloning, curl, deepmdp, drq, sac"):
        load_settings(TrainSettings, "train", ["--method", "dreamer"])


def test_a_mistake_in_a_method_s_file_names_it(monkeypatch, tmp_path):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.yaml").write_text("agent: {shifs: 1}")
    (tmp_path / "laptop.yaml").write_text("train: {}")
    monkeypatch.setattr("semore.datasets.presets.PRESETS", tmp_path)
    assert method_path("mine") == tmp_path / "methods" / "mine.yaml"
    with pytest.raises(SemoreError, match=r"methods/mine\.yaml: .*shifs"):
        load_settings(TrainSettings, "train", ["--method", "mine"])


def test_no_preset_says_what_a_method_says():
    """Else the preset's value would mean nothing for some methods."""
    for preset in ("debug", "laptop", "paper", "scratch"):
        told = {name for name, _ in flat(preset_section(preset, "train"))}
        assert not told & {f"agent.{name}" for name in SEMORE}


@pytest.mark.parametrize(
    ("changes", "encoder", "said"),
    [
        ({"objective": "ppo"}, {}, r"agent\.objective 'ppo'; choose one of sac, cloning"),
        ({"semantic_loss": "l2"}, {}, r"agent\.semantic_loss 'l2'; choose one of balanced_bce, .*nt_xent"),
        ({"transition_latent": "semantic"}, {}, r"agent\.transition_latent 'semantic'; choose one of motion, fused"),
        ({"shifts": 3}, {}, r"agent\.shifts 3; choose one of 0, 1, 2"),
        ({"shifts": -1}, {}, r"agent\.shifts -1"),
        ({"auxiliaries": ("reward", "reward")}, {}, r"agent\.auxiliaries \['reward', 'reward'\] names one twice"),
        ({"shifts": 1}, {}, r"agent\.shifts .*agent\.encoder\.streams single and agent\.auxiliaries without semantic"),
        ({"shifts": 1, "semantic_weight": 0.0}, {}, r"agent\.shifts .*streams single"),
        ({"shifts": 1, "auxiliaries": ()}, {}, r"agent\.shifts .*streams single"),
        ({"shifts": 1}, {"streams": "single"}, r"agent\.shifts .*agent\.auxiliaries without semantic"),
        ({"auxiliaries": ("semantic", "contrast")}, {}, r"contrast among agent\.auxiliaries needs agent\.shifts 1"),
        (
            {"auxiliaries": ("reward", "vision")},
            {},
            r"agent\.auxiliaries 'vision'; choose one of transition, reward, semantic, contrast, semantic_features",
        ),
        ({"contrast_weight": -1.0}, {}, r"agent\.contrast_weight is -1\.0"),
        ({"semantic_weight": -1.0}, {}, r"agent\.semantic_weight is -1\.0"),
        ({"transition_weight": -1.0}, {}, r"agent\.transition_weight is -1\.0"),
        ({"reward_weight": float("nan")}, {}, r"agent\.reward_weight is nan"),
        ({"gamma": 1.5}, {}, r"agent\.gamma is 1\.5; it must lie between 0 and 1"),
        ({"tau": 2.0}, {}, r"agent\.tau is 2\.0"),
        ({"encoder_tau": -0.1}, {}, r"agent\.encoder_tau is -0\.1"),
        ({"actor_every": 0}, {}, r"agent\.actor_every is 0"),
        ({"initial_alpha": 0.0}, {}, r"agent\.initial_alpha is 0\.0"),
        ({"objective": "cloning"}, {"streams": "single"}, r"agent\.objective cloning .*set agent\.auxiliaries to \[\]"),
        ({"semantic_loss": "feature_l1"}, {"streams": "single"}, r"agent\.semantic_loss feature_l1 .*streams dual"),
        ({"semantic_loss": "nt_xent"}, {"attention": "none"}, r"agent\.semantic_loss nt_xent .*encoder\.attention"),
        ({"semantic_loss": "nt_xent"}, {}, r"agent\.encoder\.mask student .*choose zeros"),
        ({"semantic_loss": "feature_l1"}, {"mask": "cached"}, r"agent\.encoder\.mask cached .*choose zeros"),
        ({"semantic_weight": 0.0}, {}, r"agent\.encoder\.mask student .*nothing teaches"),
        ({"auxiliaries": ("reward",)}, {}, r"agent\.encoder\.mask student .*or semantic among agent\.auxiliaries"),
        ({}, {"mask_side": 24}, r"agent\.encoder\.mask_side 24"),
        ({"semantic_weight": 0.0}, {"mask_path": "concat", "fusion": "concat", "attention": "none"}, "nothing teaches"),
        ({"auxiliaries": ("semantic", "semantic_features")}, {"attention": "none"}, r"semantic_features .*path concat"),
        ({"auxiliaries": ("semantic_features",)}, {"streams": "single"}, r"semantic_features .*streams dual"),
        ({"semantic_features_weight": -1.0}, {}, r"agent\.semantic_features_weight is -1\.0"),
        ({}, {"attention": "both"}, r"agent\.encoder\.attention 'both'"),
        ({}, {"heads": 5}, r"agent\.encoder\.heads 5"),
    ],
)  # fmt: skip
def test_wrong_settings_and_pairs_are_refused_by_name(changes, encoder, said):
    """Before any data are read, and by whatever makes an agent."""
    settings = AgentSettings(EncoderSettings(**encoder), **changes)
    for refuse in (check, make_agent):
        with pytest.raises(SemoreError, match=said):
            refuse(settings)
    with pytest.raises(SemoreError, match=said):
        replace(TrainSettings(), agent=settings).validate()


@pytest.mark.parametrize(
    ("changes", "encoder"),
    [
        ({"semantic_weight": 0.0}, {"mask": "zeros"}),
        ({"semantic_weight": 0.0}, {"attention": "none"}),
        ({"semantic_loss": "nt_xent"}, {"mask": "zeros", "attention": "joint"}),
        ({"semantic_loss": "plain_l1", "transition_latent": "fused"}, {"mask": "cached", "fusion": "concat"}),
        ({"auxiliaries": ("reward",)}, {"mask": "zeros"}),
        ({"auxiliaries": ("contrast",), "shifts": 2, "contrast_weight": 0.5}, {"streams": "single"}),
        ({"semantic_weight": 0.0, "shifts": 2}, {"streams": "single"}),
        ({"objective": "cloning", "auxiliaries": ()}, {"streams": "single"}),
        ({"auxiliaries": ("semantic", "semantic_features")}, {"mask": "own"}),
        (
            {"auxiliaries": ("semantic", "semantic_features")},
            {"attention": "none", "mask_path": "concat", "fusion": "concat", "mask_side": 32},
        ),
        ({"auxiliaries": ("semantic",)}, {"streams": "single", "mask_path": "concat", "mask_side": 16}),
    ],
)
def test_what_makes_sense_is_taken(changes, encoder):
    check(AgentSettings(EncoderSettings(**encoder), **changes))


# The agents that files and settings make


def agent_of(settings: AgentSettings, **changes) -> Learner:
    """As small as may be."""
    encoder = replace(settings.encoder, size=32, channels=(4, 4, 4, 4), heads=2, latent=4)
    return make_agent(replace(settings, encoder=encoder, hidden=8, model_hidden=8, **changes))


@pytest.mark.parametrize("method", INTENDED)
def test_what_a_method_s_file_lists_is_exactly_what_its_agent_has(method):
    agent = agent_of(loaded("--method", method).agent)
    listed = INTENDED[method].get("auxiliaries", SEMORE["auxiliaries"])
    assert type(agent) is (CloningAgent if method == "cloning" else Agent)
    assert [*getattr(agent, "auxiliaries", {})] == listed
    if method == "cloning":  # neither critics nor targets nor α
        assert {name.partition(".")[0] for name in agent.state_dict()} == {"backbone", "actor_neck", "actor"}
    else:
        weights = {name.split(".")[1] for name in agent.state_dict() if name.startswith("auxiliaries.")}
        assert weights == {*listed} - {"semantic"}  # the mask's loss has no head of its own


def test_a_weight_of_0_leaves_an_auxiliary_out_and_the_order_of_a_list_means_nothing():
    settings = loaded().agent
    assert [*agent_of(settings, reward_weight=0.0).auxiliaries] == ["transition", "semantic"]
    names = ("semantic", "reward", "transition")
    assert [*agent_of(settings, auxiliaries=names).auxiliaries] == ["transition", "reward", "semantic"]
    # Weights of what is not listed mean nothing: a preset may name them for methods that do without.
    assert [*agent_of(settings, contrast_weight=3.0).auxiliaries] == ["transition", "reward", "semantic"]


@pytest.mark.parametrize(
    ("method", "weights", "learnt"),
    [
        ("semore", (1.0, 1.0, 1.0, 0.0), ["transition", "reward", "semantic"]),
        ("semore", (0.0, 1.0, 1.0, 0.0), ["transition", "reward"]),
        ("sac", (0.0, 0.0, 0.0, 0.0), []),
        ("deepmdp", (0.0, 1.0, 1.0, 0.0), ["transition", "reward"]),
        ("curl", (0.0, 0.0, 0.0, 1.0), ["contrast"]),
        ("sac-segmentation", (1.0, 0.0, 0.0, 0.0), ["semantic"]),
        ("cloning", (0.0, 0.0, 0.0, 0.0), []),
    ],
)
def test_settings_of_runs_from_before_there_was_a_list_mean_what_they_meant(method, weights, learnt):
    names = ("semantic_weight", "transition_weight", "reward_weight", "contrast_weight")
    told = {"method": method, "agent": dict(zip(names, weights, strict=True))}
    assert [*from_dict(TrainSettings, told).agent.auxiliary_weights] == learnt
