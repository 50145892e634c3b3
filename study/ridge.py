"""Ridge regression from features to targets, measured on episodes that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PENALTIES: Final = tuple(10.0**power for power in range(-3, 4))
"""λ to choose from, in units of the mean square of the features' singular values."""
FOLDS: Final = 6
QUIET: Final = 0.3
"""Of the features' root mean square deviation: none is divided by less."""


def held_out_predictions(features: Floats, targets: Floats, episode: NDArray[np.int64]) -> Floats:
    """(N, T) predictions of targets (N, T) from features (N, F), each by a fit that has not seen its episode (N,), and
    within the range of what that fit has seen.

    The episodes are dealt out to FOLDS folds (fewer where there are fewer episodes). Each fold is predicted by a fit on
    all but it and the next one, on which the penalty is chosen for each target: neighbouring frames are all but the
    same, so that frames of the same episodes would choose none. ValueError with fewer than 3 episodes."""
    folds = _folds(episode)
    predicted = np.empty_like(targets)
    for place, held in enumerate(folds):
        tune = folds[(place + 1) % len(folds)]
        fit = ~(held | tune)
        found = _path(features[fit], targets[fit], (features[tune], features[held]))
        errors = [np.square(each - targets[tune]).mean(0) for each, _ in found]
        best = np.argmin(errors, 0)
        predicted[held] = np.stack([found[penalty][1][:, column] for column, penalty in enumerate(best)], 1)
    return predicted


def constant_predictions(targets: Floats, episode: NDArray[np.int64]) -> Floats:
    """The same without features: the mean of what each fold is fitted on."""
    predicted = np.empty_like(targets)
    folds = _folds(episode)
    for place, held in enumerate(folds):
        predicted[held] = targets[~(held | folds[(place + 1) % len(folds)])].mean(0)
    return predicted


def r2(predicted: Floats, target: Floats) -> float:
    """1 − Σ(y − ŷ)²/Σ(y − ȳ)² of (N,): 1 when all is told, about 0 for a constant; NaN where y does not vary."""
    whole = np.square(target - target.mean()).sum()
    return float(1.0 - np.square(target - predicted).sum() / whole) if whole > 0 else np.nan


def _folds(episode: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Which rows are in each."""
    names = np.unique(episode)
    if len(names) < 3:
        raise ValueError(f"{len(names)} episodes are too few: one to predict, one to choose a penalty on, one to fit")
    return [np.isin(episode, names[first::FOLDS]) for first in range(min(FOLDS, len(names)))]


def _path(features: Floats, targets: Floats, others: Sequence[Floats]) -> list[list[Floats]]:
    """For each of PENALTIES the fit's predictions for each of the others, from one decomposition. Features are
    standardised, but one that hardly ever varied is not blown up."""
    mean, spread = features.mean(0), features.std(0)
    scale = np.maximum(spread, QUIET * np.sqrt(np.square(spread).mean())) + 1e-12
    centre, low, high = targets.mean(0), targets.min(0), targets.max(0)
    fit = (features - mean) / scale
    if fit.shape[1] <= len(fit):  # whichever is smaller: features or rows
        squares, basis = np.linalg.eigh(fit.T @ fit)
        turned = basis.T @ (fit.T @ (targets - centre))
    else:
        squares, across = np.linalg.eigh(fit @ fit.T)
        turned, basis = across.T @ (targets - centre), fit.T @ across
    rotated = [(other - mean) / scale @ basis for other in others]
    unit = squares.mean() + 1e-12
    shrunk = [turned / (np.maximum(squares, 0.0) + penalty * unit)[:, None] for penalty in PENALTIES]
    return [[np.clip(centre + each @ weights, low, high) for each in rotated] for weights in shrunk]
