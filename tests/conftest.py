"""What several test modules ask for by name."""

from __future__ import annotations

import os

import pytest

for _name in [name for name in os.environ if name.startswith(("SEMORE_", "MAKE", "MFLAGS"))]:
    del os.environ[_name]  # make's own: tests name what they want, as a user without make would


@pytest.fixture(scope="module")
def one_thread():
    """The networks of the tests are so small that a second thread only waits for the first."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def offline():
    """No model hub is asked."""
    import huggingface_hub

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture
def short_runs(monkeypatch):
    """Training runs drive short episodes, and leave torch's threads as they were."""
    import torch
    from tiny_run import shorten

    threads = torch.get_num_threads()
    shorten(monkeypatch)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_export(monkeypatch):
    """An empty policy file instead of the export, which takes longer than the rest of a tiny run."""
    from semore.train import run

    monkeypatch.setattr(run, "export_policy", lambda agent, path, view: path.touch())
