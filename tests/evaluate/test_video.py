"""Films and strips: which moments a strip shows, what lies over the pictures, and that browsers can play the file."""

from __future__ import annotations

from itertools import pairwise

import imageio.v2 as imageio
import numpy as np
import pytest
from tiny_moments import moment

from semore.collect.env import DrivingEnv
from semore.evaluate.film.crash_strip import FRAMES, crash_strip, frames_of, impact
from semore.evaluate.film.moments import Moment, _moment
from semore.evaluate.film.overlay import KNOWN, SIDE, compose
from semore.evaluate.film.video import frame_rate, save


def drive(length: int, hit: int, student: bool = True) -> list[Moment]:
    """A light touch at 2, the hard impact at `hit`."""
    crashes = [5.0 * (place >= 2) + 900.0 * (place >= hit) for place in range(length)]
    return [moment(place, crash, student) for place, crash in enumerate(crashes)]


def test_a_picture_shows_h_ka_and_the_students_mask_where_they_are():
    (picture,) = compose([moment(0)])
    assert picture.shape == (2 * SIDE, 2 * SIDE, 3)
    plain, inside, outside = picture[128, 128], picture[128, SIDE + 128], picture[230, SIDE + 20]
    assert plain.tolist() == outside.tolist() == [90, 90, 90]
    assert np.abs(inside.astype(int) - KNOWN).sum() < np.abs(plain.astype(int) - KNOWN).sum()
    assert picture[SIDE + 128, 128].tolist() != [90, 90, 90]  # the student's mask
    (untaught,) = compose([moment(0, student=False)])
    assert untaught[SIDE + 40, 128].tolist() == [20, 22, 27]


def test_the_panel_changes_with_speed_control_reward_crash_and_end():
    pictures = compose([moment(0), moment(9), moment(9, 50.0), moment(9, 0.0, True, "success")])
    panels = [picture[SIDE:, SIDE:] for picture in pictures]
    assert all((one != other).any() for one, other in pairwise(panels))


@pytest.mark.parametrize("skip", [1, 2, 3, 7])
@pytest.mark.parametrize("length", [2, 3])
def test_a_film_of_any_frame_skip_lasts_as_long_as_its_episode(tmp_path, skip, length):
    moments = drive(length, 1)
    for place, each in enumerate(moments):
        each.metrics["steps"] = skip * place
    assert frame_rate(moments) == pytest.approx(20 / skip)
    save([picture[:16, :16] for picture in compose(moments)], tmp_path / "film.mp4", frame_rate(moments))
    with imageio.get_reader(tmp_path / "film.mp4") as reader:
        assert reader.get_meta_data()["fps"] == pytest.approx(20 / skip, abs=0.01)


def test_the_film_plays_in_real_time_in_the_codec_browsers_know(tmp_path):
    moments = drive(12, 8)
    assert frame_rate(moments) == 10  # two steps of 0.05 s a decision
    path = tmp_path / "film.mp4"
    save(compose(moments), path, frame_rate(moments))
    with imageio.get_reader(path) as reader:
        told = reader.get_meta_data()
        assert reader.count_frames() == 12
    assert told["fps"] == 10
    assert told["codec"] == "h264"
    assert told["pix_fmt"].startswith("yuv420p")
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # playable before it is whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize(("length", "hit"), [(100, 60), (20, 3), (64, 63), (5, 4)])
def test_a_strip_surrounds_the_hardest_impact(length, hit):
    moments = drive(length, hit)
    assert impact(moments) == hit
    shown = frames_of(moments, hit)
    assert hit in shown
    assert shown == sorted(set(shown))
    assert len(shown) <= FRAMES
    assert moments[hit].seconds - moments[shown[0]].seconds <= 2.0 + 1e-6
    if hit >= 20:
        assert len(shown) == FRAMES
        assert moments[hit].seconds - moments[shown[0]].seconds == pytest.approx(2.0)


def test_a_strip_has_a_second_row_only_where_a_mask_is_taught():
    with_mask, without = crash_strip(drive(60, 40)), crash_strip(drive(60, 40, student=False))
    assert with_mask is not None
    assert without is not None
    assert with_mask.width == without.width
    assert with_mask.height > 1.9 * without.height
    assert crash_strip([moment(place) for place in range(5)]) is None  # nothing was hit


def test_h_ka_and_phrases_are_those_of_the_simulators_truth():
    env = DrivingEnv("JayWalk")
    observation, info = env.reset(seed=2_000_006)
    drawn = None
    for _ in range(90):
        observation, _, over, cut, info = env.step(np.array([0.0, 0.6], np.float32))
        drawn = _moment(env.render(), env.render(), observation, None, None, info)
        if drawn.known.any() or over or cut:
            break
    shown = env.render()
    env.close()
    assert drawn is not None
    assert drawn.phrases
    assert drawn.known.any()
    assert (info["instance"][drawn.known] > 0).all()
    np.testing.assert_array_equal(drawn.seen, shown)  # here the policy sees all of it
    assert 0 < drawn.residual.max() <= 1
    assert drawn.speed == pytest.approx(float(np.hypot(*info["ego"][4:6])))
