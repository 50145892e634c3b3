"""Each failure signature, induced on purpose, and none where nothing is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console
from scipy import ndimage
from test_audit import know, record
from test_oracle_rules import SIZE, actor, scene

from semore.annotate.audit.alignment import Alignment
from semore.annotate.audit.failure_checks import failed_checks, too_few
from semore.annotate.audit.knowledge import audit_knowledge
from semore.annotate.audit.measure import Audit
from semore.annotate.audit.report import show
from semore.annotate.audit.truth import truth_of
from semore.annotate.interfaces import FrameBatch
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.records import Status, Text

FRAMES = 30
NEED = "each check needs 20"


def traffic() -> list[FrameBatch]:
    """Frames with a car and a pedestrian, each a block of pixels somewhere else; what they are called changes."""
    rng = np.random.default_rng(0)
    shown = []
    for number in range(FRAMES):
        who = actor(1, "pedestrian", 15, 5 if number % 3 else -1), actor(2, "sedan", 30, 0 if number % 2 else 4)
        batch = scene(*who)
        batch.instance[:] = 0
        for one in who:
            top, left = rng.integers(6, SIZE - 12, 2)
            batch.instance[0, top : top + 6, left : left + 4] = one["id"]
        shown.append(batch)
    return shown


def audited(folder, change=lambda mask: mask, texts=None, names=None) -> Audit:
    """The audit of the true masks after `change`, under the true phrases unless `names`; `texts` replace whole rows."""
    scenes = traffic()
    episode = record(folder / "r.zarr", scenes)
    said = {}
    for row, batch in enumerate(scenes):
        truth = truth_of(batch)
        mask = change(truth.mask[0].astype(np.float64) * 255).round().astype(np.uint8)
        said[row] = dict.fromkeys(names or truth.phrases[0], mask)
    return audit_knowledge(know(folder / "k", episode, said | (texts or {})), [episode])


def said(audit: Audit) -> str:
    """The last line that people read."""
    console = Console(width=1000)
    with console.capture() as shown:
        show(audit, console)
    return shown.get().splitlines()[-1].strip()


def names(audit: Audit) -> list[str]:
    return [check.name for check in failed_checks(audit)]


def test_healthy_masks_raise_nothing(tmp_path):
    audit = audited(tmp_path)
    assert audit.overall.iou == 1.0
    assert names(audit) == []


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        (lambda mask: np.roll(mask, (3, -2), (0, 1)), "moved 3 px up and 2 px right"),
        (lambda mask: np.roll(mask, 5, 1), "moved 5 px left"),
        (lambda mask: mask[:, ::-1], "mirrored left to right"),
        (lambda mask: mask[::-1], "turned upside down"),
        (lambda mask: mask.T, "transposed (rows and columns swapped)"),
        (lambda mask: np.rot90(mask), "rotated by 90° clockwise"),
    ],
)
def test_misaligned_masks_are_named_with_the_cure(tmp_path, change, cure):
    audit = audited(tmp_path, change)
    assert names(audit) == ["masks misaligned"]
    assert failed_checks(audit)[0].seen.endswith(f"if the masks were {cure}")
    assert audit.alignment.best().iou == 1.0


def test_poor_masks_are_not_called_misaligned(tmp_path):
    rng = np.random.default_rng(1)
    assert names(audited(tmp_path / "noise", lambda mask: 255.0 * (rng.random(mask.shape) < 0.1))) == []
    blurred = audited(tmp_path / "blur", lambda mask: ndimage.gaussian_filter(mask, 1.5))
    assert names(blurred) == []
    assert blurred.overall.iou < 0.9


def test_empty_masks(tmp_path):
    audit = audited(tmp_path, lambda mask: 0.3 * mask)
    assert names(audit) == ["masks empty"]
    assert "peak is 0.30" in failed_checks(audit)[0].seen
    assert names(audited(tmp_path / "none", lambda mask: 0.0 * mask)) == ["masks empty"]


def test_no_phrases_are_not_empty_masks(tmp_path):
    texts = {row: Text(()) for row in range(FRAMES)}
    assert names(audited(tmp_path, texts=texts)) == []


@pytest.mark.parametrize("level", [255, 110])
def test_everything_bright(tmp_path, level):
    """Also when soft masks are bright all over just below the threshold."""
    audit = audited(tmp_path, lambda mask: np.maximum(mask, level))
    assert names(audit) == ["everything bright"]


def test_constant_phrases(tmp_path):
    assert names(audited(tmp_path, names=("car ahead", "person"))) == ["phrases constant"]


def test_no_knowledge(tmp_path):
    texts = {row: Text((), Status.FAILED, "time-out after 60 s") for row in range(8)}
    audit = audited(tmp_path, texts=texts)
    assert names(audit) == ["no knowledge"]
    assert "8 x text failed: time-out after 60 s" in failed_checks(audit)[0].seen
    few = audited(tmp_path / "few", texts={0: texts[0]})
    assert names(few) == []


def test_a_handful_of_frames_says_nothing(tmp_path):
    scenes = traffic()[:5]
    episode = record(tmp_path / "r.zarr", scenes)
    black = np.zeros((SIZE, SIZE), np.uint8)
    known = know(tmp_path / "k", episode, {row: {"car ahead": black} for row in range(5)})
    audit = audit_knowledge(known, [episode])
    assert names(audit) == []
    assert too_few(audit) == ["5 frames", "5 frames with key objects", "5 frames with key objects and phrases"]
    assert said(audit) == f"too few frames to tell whether anything is broken: {', '.join(too_few(audit))}; {NEED}"


def test_enough_frames_without_a_fault_are_called_sound(tmp_path):
    assert said(audited(tmp_path)) == "no failure signature: nothing looks broken"


def test_alignment_of_nothing_and_of_two_sizes():
    alignment = Alignment()
    assert alignment.best().change == ""
    empty = np.zeros((2, 8, 6), np.bool_)
    alignment.add(empty, empty)
    assert alignment.best().change == ""
    with pytest.raises(SemoreError, match="camera size"):
        alignment.add(empty[:, :5], empty[:, :5])


def test_alignment_of_frames_that_are_not_square():
    truth = np.random.default_rng(0).random((5, 24, 16)) < 0.2
    truth[:, :4] = truth[:, -4:] = truth[:, :, :2] = truth[:, :, -2:] = False
    alignment = Alignment()
    alignment.add(np.roll(truth, (-4, 2), (1, 2)), truth)
    assert alignment.best() == ("moved 4 px down and 2 px left", 1.0)
