"""Segmenters: frames and phrases to soft masks."""
