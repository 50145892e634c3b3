"""Counterfactuals: the same policy, or the same training, with one part of it changed."""
