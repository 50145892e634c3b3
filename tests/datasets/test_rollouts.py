"""The rollouts format: what goes in comes out, and nothing damaged, foreign or half-written is read as an episode."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semore.datasets.errors import SemoreError
from semore.datasets.names import rollouts_path
from semore.datasets.rollouts.schema import ACTOR_FIELDS, EGO_FIELDS, FRAME_ARRAYS, SCHEMA_VERSION, STEP_ARRAYS
from semore.datasets.rollouts.store import CHUNK_FRAMES, Rollouts, checksum, row_digests

SIDE, ACTORS = 6, 3
ALL = (*FRAME_ARRAYS, *STEP_ARRAYS)
DTYPES = {**FRAME_ARRAYS, **STEP_ARRAYS}


def shapes(steps: int, actors: int = ACTORS) -> dict[str, tuple[int, ...]]:
    """The layout of datasets.rollouts.schema, written out."""
    frames = steps + 1
    return {
        "rgb": (frames, SIDE, SIDE, 3),
        "semantic": (frames, SIDE, SIDE),
        "instance": (frames, SIDE, SIDE),
        "actors": (frames, actors, len(ACTOR_FIELDS)),
        "ego": (frames, len(EGO_FIELDS)),
        "digest": (frames, 16),
        "state_digest": (frames, 16),
        "action": (steps, 2),
        **dict.fromkeys(("reward", "terminated", "truncated", "speed", "progress", "impulse"), (steps,)),
    }


def episode_arrays(steps: int = 5, seed: int = 0, actors: int = ACTORS) -> dict[str, np.ndarray]:
    """Random arrays of an episode."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, 2 if DTYPES[name] == "bool" else 256, shape).astype(DTYPES[name])
        for name, shape in shapes(steps, actors).items()
    }


def made(path: Path, *names: str, steps: int = 5) -> Rollouts:
    """Rollouts with an episode of each name, every one of other contents."""
    rollouts = Rollouts(path)
    rollouts.create()
    for seed, name in enumerate(names):
        rollouts.write(name, episode_arrays(steps, seed), {"policy": "random", "seed": seed})
    return rollouts


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Rollouts:
    """Three episodes nobody touches."""
    return made(tmp_path_factory.mktemp("template") / "r.zarr", "b", "a", "c")


@pytest.fixture
def rollouts(template, tmp_path) -> Rollouts:
    """A copy to damage; copying spares the fsyncs of writing."""
    shutil.copytree(template.path, tmp_path / "r.zarr")
    return Rollouts(tmp_path / "r.zarr")


def edit(path: Path, **attributes: Any) -> None:
    """Change or (None) drop attributes of a Zarr group."""
    content = json.loads((path / "zarr.json").read_text())
    merged = content["attributes"] | attributes
    content["attributes"] = {key: value for key, value in merged.items() if value is not None}
    (path / "zarr.json").write_text(json.dumps(content))


# Round trip


@given(steps=st.sampled_from([1, 2, CHUNK_FRAMES - 1, CHUNK_FRAMES, CHUNK_FRAMES + 1]), actors=st.integers(0, 2))
@settings(deadline=None, max_examples=8)
def test_what_goes_in_comes_out(tmp_path_factory, steps, actors):
    path = tmp_path_factory.mktemp("r") / "r.zarr"
    written = episode_arrays(steps, steps, actors)
    store = Rollouts(path)
    store.create()
    store.write("e", written, {"policy": "driver", "start_jitter": [0.8, 0.06]})
    (episode,) = Rollouts(path).episodes()
    read = episode.read(*ALL)
    assert set(read) == set(written)
    for name, shape in shapes(steps, actors).items():
        assert (read[name].shape, str(read[name].dtype)) == (shape, DTYPES[name]), name
        assert np.array_equal(read[name], written[name]), name
    assert (episode.name, episode.steps, episode.path) == ("e", steps, path / "e")
    assert (episode.attributes["policy"], episode.attributes["start_jitter"]) == ("driver", [0.8, 0.06])
    assert episode.attributes["checksum"] == checksum(written)
    episode.verify()


def test_no_chunk_is_empty_even_without_actors(tmp_path):
    """Zarr's format has none, and its later versions refuse to write one."""
    store = Rollouts(tmp_path / "r.zarr")
    store.create()
    store.write("e", episode_arrays(3, 3, 0), {})
    described = [json.loads(path.read_text()) for path in (tmp_path / "r.zarr" / "e").glob("*/zarr.json")]
    assert len(described) == len(ALL)
    for array in described:
        assert min(array["chunk_grid"]["configuration"]["chunk_shape"]) > 0


def test_an_episode_is_plain_zarr_with_many_frames_a_chunk(tmp_path):
    made(tmp_path / "r.zarr", "e", steps=300)
    group = zarr.open_group(tmp_path / "r.zarr", mode="r")["e"]
    assert group["rgb"].chunks == (CHUNK_FRAMES, SIDE, SIDE, 3)
    assert 64 <= CHUNK_FRAMES <= 256
    assert group["action"].metadata.zarr_format == 3
    assert [type(codec).__name__ for codec in group["rgb"].compressors] == ["ZstdCodec"]


@pytest.mark.parametrize(("steps", "actors"), [(1, ACTORS), (CHUNK_FRAMES, 1), (CHUNK_FRAMES + 1, 0)])
def test_an_episode_is_what_the_zarr_package_would_write(tmp_path, steps, actors):
    """Every file, byte for byte."""
    rollouts, arrays = made(tmp_path / "r.zarr"), episode_arrays(steps, steps, actors)
    rollouts.write("e", arrays, {"policy": "größer", "reward": np.float64(0.1), "start_jitter": [0.8, None, True]})
    attributes = dict(rollouts.episode("e").attributes)
    theirs = zarr.create_group(tmp_path / "theirs", zarr_format=3, attributes=attributes)
    for name, value in arrays.items():
        chunk = tuple(max(side, 1) for side in (min(CHUNK_FRAMES, len(value)), *value.shape[1:]))
        array = theirs.create_array(
            name,
            shape=value.shape,
            dtype=value.dtype,
            chunks=chunk,
            compressors=zarr.codecs.ZstdCodec(level=1),
            config={"write_empty_chunks": True},
        )
        array[:] = value
    ours, expected = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (rollouts.path / "e", tmp_path / "theirs")
    )
    assert ours == expected


def test_fortran_and_strided_arrays_are_stored_by_value(tmp_path):
    plain = episode_arrays()
    odd = {name: np.asfortranarray(value) for name, value in plain.items()} | {"rgb": plain["rgb"].repeat(2, 0)[::2]}
    rollouts = made(tmp_path / "r.zarr")
    rollouts.write("odd", odd, {})
    rollouts.write("plain", plain, {})
    assert rollouts.episode("odd").attributes["checksum"] == rollouts.episode("plain").attributes["checksum"]
    assert np.array_equal(rollouts.episode("odd").read("rgb")["rgb"], plain["rgb"])


def test_names_are_sorted_and_only_whole_episodes(rollouts):
    assert rollouts.names() == ["a", "b", "c"]
    (rollouts.path / ".tmp-1-d").mkdir()
    (rollouts.path / "notes.txt").write_text("x")
    assert rollouts.names() == ["a", "b", "c"]
    assert [episode.attributes["seed"] for episode in rollouts.episodes()] == [1, 0, 2]
    assert rollouts.sweep() == 1
    assert Rollouts(rollouts.path.parent / "none.zarr").names() == []


def test_creating_twice_keeps_everything(rollouts):
    before = (rollouts.path / "zarr.json").read_bytes()
    rollouts.create()
    assert rollouts.names() == ["a", "b", "c"]
    assert (rollouts.path / "zarr.json").read_bytes() == before


def test_the_folder_is_named_after_scenario_and_preset():
    assert rollouts_path("d", "", "JayWalk", "laptop") == Path("d/rollouts/JayWalk-laptop.zarr")
    assert rollouts_path("d", "", "JayWalk", "some/mine.yaml") == Path("d/rollouts/JayWalk-mine.zarr")
    assert rollouts_path("d", "own", "JayWalk", "laptop") == Path("d/rollouts/own.zarr")


# What may not be written


@pytest.mark.parametrize("name", ALL)
def test_arrays_that_miss_one_or_have_another_type_or_length_are_refused(tmp_path, name):
    rollouts, whole = made(tmp_path / "r.zarr"), episode_arrays()
    other = "float64" if DTYPES[name] != "float64" else "float32"
    for wrong in (
        {key: value for key, value in whole.items() if key != name},
        whole | {name: whole[name].astype(other)},
        whole | {name: whole[name][:-1]},
        whole | {"extra": whole[name]},
    ):
        with pytest.raises(SemoreError, match="episode e"):
            rollouts.write("e", wrong, {})
    assert [path.name for path in rollouts.path.iterdir()] == ["zarr.json"]


def test_attributes_of_the_format_cannot_be_overruled(tmp_path):
    rollouts = made(tmp_path / "r.zarr")
    rollouts.write("e", episode_arrays(), {"complete": False, "checksum": "x", "steps": 99, "schema_version": 7})
    rollouts.episode("e").verify()
    assert rollouts.episode("e").steps == 5


# Damage


@pytest.mark.parametrize("name", ALL)
def test_a_changed_byte_is_found(rollouts, name):
    """Bytes changed behind the compression's back: what bit rot in an uncompressed stretch looks like."""
    episode = rollouts.episode("a")
    array = zarr.open_group(episode.path, mode="r+")[name]
    values = array[:]
    values.reshape(-1).view(np.uint8)[values.nbytes // 2] ^= 1
    array[:] = values
    with pytest.raises(SemoreError, match=rf"r\.zarr/a.*checksum .* expected {episode.attributes['checksum']}"):
        rollouts.episode("a").verify()
    rollouts.episode("b").verify()


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_byte_of_a_chunk_is_found_unless_it_means_nothing(rollouts, place, flip):
    episode = rollouts.episode("a")
    (chunk,) = (path for path in (episode.path / "rgb" / "c").rglob("*") if path.is_file())
    whole = chunk.read_bytes()
    content = bytearray(whole)
    content[int(place * len(content))] ^= flip
    before = episode.read("rgb")["rgb"]
    chunk.write_bytes(content)
    try:
        complaint = ""
        try:
            episode.verify()
        except SemoreError as error:
            complaint = str(error)
        if complaint:
            assert str(episode.path) in complaint
        else:
            assert np.array_equal(episode.read("rgb")["rgb"], before)
    finally:
        chunk.write_bytes(whole)


@pytest.mark.parametrize("keep", [0, 1, 10, 0.5])
def test_a_torn_chunk_names_its_folder(rollouts, keep):
    episode = rollouts.episode("b")
    (chunk,) = (path for path in (episode.path / "rgb" / "c").rglob("*") if path.is_file())
    content = chunk.read_bytes()
    chunk.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(SemoreError, match=f"{episode.path} is damaged"):
        episode.read("rgb")
    with pytest.raises(SemoreError, match=str(episode.path)):
        episode.verify()
    assert set(episode.read("action")) == {"action"}


def test_a_missing_chunk_does_not_pass_for_zeros(rollouts):
    episode = rollouts.episode("b")
    shutil.rmtree(episode.path / "rgb" / "c")
    with pytest.raises(SemoreError, match=f"{episode.path} is damaged.*rgb.*missing chunks"):
        episode.read("rgb")
    with pytest.raises(SemoreError, match=str(episode.path)):
        episode.verify()
    assert set(episode.read("action")) == {"action"}


def test_a_missing_array_names_folder_and_array(rollouts):
    episode = rollouts.episode("c")
    shutil.rmtree(episode.path / "impulse")
    with pytest.raises(SemoreError, match=f"{episode.path} is damaged.*impulse"):
        episode.read("impulse")
    with pytest.raises(SemoreError, match="impulse"):
        episode.verify()


def test_arrays_swapped_between_names_are_found(rollouts):
    path = rollouts.path / "a"
    (path / "speed").rename(path / "kept")
    (path / "reward").rename(path / "speed")
    (path / "kept").rename(path / "reward")
    with pytest.raises(SemoreError, match="checksum"):
        rollouts.episode("a").verify()


# Versions, foreign and unfinished folders


@pytest.mark.parametrize("version", [0, 1, "2", None])
def test_another_schema_version_is_refused_by_name(rollouts, version):
    edit(rollouts.path / "b", schema_version=version)
    message = f"r.zarr/b has schema version {version}, this code reads {SCHEMA_VERSION}"
    for read in (lambda: rollouts.episode("b"), lambda: list(rollouts.episodes()), rollouts.fingerprint):
        with pytest.raises(SemoreError) as error:
            read()
        assert message in str(error.value)
    assert rollouts.episode("a").steps == 5
    edit(rollouts.path, schema_version=version)
    for read in (rollouts.create, rollouts.episodes):
        with pytest.raises(SemoreError) as error:
            read()
        assert f"r.zarr has schema version {version}, this code reads {SCHEMA_VERSION}" in str(error.value)


@pytest.mark.parametrize("complete", [False, None])
def test_an_episode_not_marked_complete_is_refused(rollouts, complete):
    edit(rollouts.path / "b", complete=complete)
    with pytest.raises(SemoreError, match=r"r\.zarr/b is not marked complete"):
        rollouts.episode("b")


@pytest.mark.parametrize("content", [None, "", "{", '{"zarr_format": 3}'])
def test_a_folder_that_is_no_episode_is_named(rollouts, content):
    (rollouts.path / "x").mkdir()
    if content is not None:
        (rollouts.path / "x" / "zarr.json").write_text(content)
    with pytest.raises(SemoreError, match=r"r\.zarr/x is not a recorded episode"):
        list(rollouts.episodes())


def test_foreign_folders_are_refused_and_left_alone(tmp_path):
    zarr.create_group(tmp_path / "g.zarr", zarr_format=3, attributes={"schema_version": 1})
    for read in (Rollouts(tmp_path / "g.zarr").create, Rollouts(tmp_path / "g.zarr").episodes):
        with pytest.raises(SemoreError, match=r"g\.zarr is a Zarr folder, but not of Semore rollouts"):
            read()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("x")
    with pytest.raises(SemoreError, match="home exists and is no rollouts folder"):
        Rollouts(tmp_path / "home").create()
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.tex"]
    with pytest.raises(
        SemoreError, match=r"none\.zarr does not exist; record it: `semore collect --rollouts .*none\.zarr`"
    ):
        Rollouts(tmp_path / "none.zarr").episodes()
    made(tmp_path / "torn.zarr")
    (tmp_path / "torn.zarr" / "zarr.json").write_text('{"zarr_fo')
    with pytest.raises(SemoreError, match=r"torn\.zarr/zarr\.json is torn"):
        Rollouts(tmp_path / "torn.zarr").episodes()


# Digests and fingerprints


def test_the_fingerprint_tells_contents_apart_and_not_their_order(tmp_path):
    one, other = made(tmp_path / "1.zarr", "a", "b"), made(tmp_path / "2.zarr")
    for seed, name in ((1, "b"), (0, "a")):
        other.write(name, episode_arrays(5, seed), {"policy": "another"})
    assert one.fingerprint() == other.fingerprint() == one.fingerprint(["b", "a"])
    assert len({one.fingerprint(), one.fingerprint(["a"]), one.fingerprint(["b"]), one.fingerprint([])}) == 4
    changed = made(tmp_path / "3.zarr", "a")
    changed.write("b", episode_arrays(5, 1) | {"reward": np.zeros(5, np.float32)}, {})
    swapped = made(tmp_path / "4.zarr", "b", "a")
    assert len({one.fingerprint(), changed.fingerprint(), swapped.fingerprint()}) == 3


def test_the_checksum_sees_names_shapes_and_types():
    base = {"a": np.zeros((2, 3), np.float32), "b": np.ones(4, np.uint8)}
    assert checksum(base) == checksum(dict(reversed(list(base.items()))))
    others = [
        base | {"a": np.zeros((3, 2), np.float32)},
        base | {"a": np.zeros((2, 3), np.int32)},
        {"c" if name == "b" else name: value for name, value in base.items()},
        {"a": base["a"]},
    ]
    assert len({checksum(base), *(checksum(other) for other in others)}) == 5


@given(
    rows=st.lists(st.binary(min_size=6, max_size=6), min_size=1, max_size=8),
    extra=st.lists(st.integers(0, 3), min_size=8, max_size=8),
)
@settings(deadline=None)
def test_row_digests_are_equal_exactly_when_the_rows_are(rows, extra):
    frames = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), 2, 3)
    states = np.array(extra[: len(rows)], np.float32)[:, None]
    digests = row_digests(frames, states)
    assert (digests.shape, digests.dtype) == ((len(rows), 16), np.uint8)
    for one in range(len(rows)):
        assert np.array_equal(digests[one], row_digests(frames[one:], states[one:])[0])  # not of its place
        for two in range(len(rows)):
            same = rows[one] == rows[two] and extra[one] == extra[two]
            assert np.array_equal(digests[one], digests[two]) == same


def test_row_digests_differ_by_shape_type_and_split():
    flat = np.arange(12, dtype=np.uint8)
    versions = [
        row_digests(flat.reshape(1, 12)),
        row_digests(flat.reshape(1, 3, 4)),
        row_digests(flat.reshape(1, 4, 3)),
        row_digests(flat.reshape(1, 12).view(np.int8)),
        row_digests(flat.reshape(1, 12).view(np.uint16)),
        row_digests(flat[None, :6], flat[None, 6:]),
        row_digests(flat[None, :5], flat[None, 5:]),
        row_digests(flat[None, 6:], flat[None, :6]),
    ]
    assert len({digest.tobytes() for digest in versions}) == len(versions)


def test_row_digests_read_values_not_memory_layout():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    turned = np.ascontiguousarray(image.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    assert np.array_equal(row_digests(image), row_digests(turned))
