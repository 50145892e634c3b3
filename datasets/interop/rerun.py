"""One episode as a recording for the rerun viewer: camera, H_ka over it, phrases, verdicts, and curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from semore.datasets.atomic_io import atomic_file
from semore.datasets.knowledge.annotations import read_annotations
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.knowledge.records import INVALID
from semore.datasets.rollouts.schema import DT, SemanticClass
from semore.datasets.rollouts.store import Episode
from semore.extras import require

QUALITY = 90
"""JPEG quality of the pictures; the rollouts keep the exact ones."""


def export_rerun(episode: Episode, target: Path, knowledge: KnowledgeSet | None = None) -> None:
    """Write the episode as the .rrd file `target`; MissingExtra when rerun-sdk is missing."""
    require("export", "rerun")
    import rerun as rr
    from rerun import blueprint as rrb

    arrays = episode.read("rgb", "semantic", "action", "reward", "speed", "impulse")
    rows = episode.decision_rows
    known = read_annotations(episode, rows, knowledge)
    place = {int(row): number for number, row in enumerate(rows)}
    curves = [
        rrb.TimeSeriesView(origin=name, name=name) for name in ("speed", "reward", "action", "impulse", "verdict")
    ]
    pictures = rrb.Vertical(
        rrb.Spatial2DView(origin="camera", contents=["camera/rgb", "camera/h_ka"], name="H_ka over the camera"),
        rrb.TextLogView(origin="phrases", name="phrases"),
        row_shares=[3, 1],
    )
    with atomic_file(target) as temporary:
        recording = rr.RecordingStream("semore", recording_id=episode.name)
        recording.save(temporary, default_blueprint=rrb.Horizontal(pictures, rrb.Vertical(*curves)))
        about = "\n".join(f"- {key}: {value}" for key, value in episode.attributes.items())
        recording.log("about", rr.TextDocument(about, media_type="text/markdown"), static=True)
        classes = [(each.value, each.name.lower()) for each in SemanticClass]
        recording.log("camera/semantic", rr.AnnotationContext(classes), static=True)
        for row in range(episode.steps + 1):
            recording.set_time("step", sequence=row)
            recording.set_time("time", duration=row * DT)
            recording.log("camera/rgb", rr.Image(arrays["rgb"][row]).compress(jpeg_quality=QUALITY))
            recording.log("camera/semantic", rr.SegmentationImage(arrays["semantic"][row]))
            if row < episode.steps:
                for name in ("speed", "reward", "impulse"):
                    recording.log(name, rr.Scalars(float(arrays[name][row])))
                for name, value in zip(("steer", "pedal"), arrays["action"][row], strict=True):
                    recording.log(f"action/{name}", rr.Scalars(float(value)))
            if row not in place:
                continue
            number = place[row]
            text = known.texts[number]
            if known.valid[number]:
                red = np.zeros((*known.masks[number].shape, 4), np.uint8)
                red[..., 0], red[..., 3] = 255, known.masks[number] // 2
                recording.log("camera/h_ka", rr.Image(red))
            else:
                recording.log("camera/h_ka", rr.Clear(recursive=False))
            if text is not None:
                recording.log("phrases", rr.TextLog(", ".join(text.phrases) or text.reason or "nothing"))
            if known.verdicts[number] != INVALID:
                recording.log("verdict", rr.Scalars(float(known.verdicts[number])))
        recording.flush()
        recording.disconnect()
