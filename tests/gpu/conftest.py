"""Tests that only a GPU can run: `make test-gpu`. Without one each is skipped by name."""

from __future__ import annotations

import pytest
import torch


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(scope="session", autouse=True)
def _kernels_that_repeat():
    """As a run on a GPU asks for."""
    from semore.train.gpu import repeatable

    if torch.cuda.is_available():
        repeatable()
    yield
    torch.use_deterministic_algorithms(False)
