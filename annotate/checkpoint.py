"""Where a model's files are and what identifies them: a local folder's content, or a hub id's commit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, NamedTuple

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

from semore.datasets.atomic_io import read_json
from semore.datasets.errors import SemoreError

CONFIG: Final = "config.json"
SUFFIXES: Final = (".json", ".safetensors", ".bin", ".txt", ".jinja", ".model")
"""Files that make a model what it is; a README may change."""
WHOLE: Final = 64 * 2**20
"""Files up to this many bytes are digested whole."""
SAMPLES: Final = 16
SAMPLE: Final = 2**20
"""Of larger files, so many samples of so many bytes are, from the first byte to the last."""
HUB_PATIENCE: Final = 5.0
"""Seconds to wait for the hub to say which commit is meant."""
HUB_ERRORS: Final[tuple[type[BaseException], ...]] = (*HfHubHTTPError.__bases__, OSError, ValueError)
"""What the hub's client raises: the errors of the HTTP library it sits on (httpx before its version 2, then httpx2) are
bases of its own."""


class Checkpoint(NamedTuple):
    """A model's files. `name` tells them from all others; `source` and `revision` are for from_pretrained; `missing`
    is why they are neither here nor to be had, and what to do."""

    name: str
    source: str
    revision: str | None
    config: dict[str, Any]
    missing: str = ""

    def require(self) -> None:
        """SemoreError when the files are missing."""
        if self.missing:
            raise SemoreError(self.missing)


def find_checkpoint(model: str, revision: str = "") -> Checkpoint:
    """The checkpoint of a local folder or a hub id at a revision (default: as downloaded before, else the newest).

    Reads no weights but for their digest. Asks the hub only for a model that was never downloaded, and then fetches
    its config.json, so that the commit named here is the one that is downloaded and found again by later runs.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _folder(folder)
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        return Checkpoint(model, model, None, {}, f"model {model}: there is no such folder, and a hub id is owner/name")
    config, trouble = try_to_load_from_cache(model, CONFIG, revision=revision or None), ""
    if not isinstance(config, str):
        config, trouble = _fetch_config(model, revision or None)
    if not config:
        asked = f"{model}@{revision or 'main'}"
        hint = "check the name, get online, or give a local folder with the checkpoint"
        return Checkpoint(
            asked, model, revision or None, {}, f"model {asked}: not downloaded, and the hub says: {trouble}; {hint}"
        )
    commit = Path(config).parent.name
    return Checkpoint(f"{model}@{commit}", model, commit, read_json(Path(config)))


def _fetch_config(model: str, revision: str | None) -> tuple[str, str]:
    """The path of the config.json fetched from the hub, and what went wrong."""
    try:
        HfApi().model_info(model, revision=revision, timeout=HUB_PATIENCE)  # unlike a download, gives up at once
        return hf_hub_download(model, CONFIG, revision=revision), ""
    except HUB_ERRORS as error:
        return "", f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def _folder(folder: Path) -> Checkpoint:
    if not (folder / CONFIG).is_file():
        return Checkpoint(str(folder), str(folder), None, {}, f"model {folder}: the folder has no {CONFIG}")
    return Checkpoint(f"files {_digest(folder)}", str(folder), None, read_json(folder / CONFIG))


def _digest(folder: Path) -> str:
    """BLAKE2b-128 (hex) of the names, sizes and content of a folder's model files.

    Of a file too large to read each time only samples count: training changes weights all over, so that two
    checkpoints of equal size differ in them, while a single flipped bit between them may go unseen.
    """
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file()):
        size = path.stat().st_size
        state.update(f"{path.name}\0{size}\0".encode())
        with open(path, "rb") as handle:
            if size <= WHOLE:
                state.update(handle.read())
                continue
            for sample in range(SAMPLES):
                handle.seek((size - SAMPLE) * sample // (SAMPLES - 1))
                state.update(handle.read(SAMPLE))
    return state.hexdigest()
