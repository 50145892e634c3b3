"""Describers: frames to noun phrases."""
