"""The small fully connected networks of agents, and their initialisation (method.md §3.3)."""

from __future__ import annotations

from torch import nn


def orthogonal(module: nn.Module) -> None:
    """Linear layers orthogonal with gain 1 and zero bias (method.md §3.3)."""
    if isinstance(module, nn.Linear):
        nn.init.orthogonal_(module.weight)
        nn.init.zeros_(module.bias)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers: actor and critics."""
    layers = nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
    return layers.apply(orthogonal)


def head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """One normalised hidden layer: what predicts from a latent."""
    layers = nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    return layers.apply(orthogonal)


def parameters(*modules: nn.Module) -> list[nn.Parameter]:
    """Of all of them, in order."""
    return [parameter for module in modules for parameter in module.parameters()]
