"""Judges: is the action reasonable in this frame?"""
