"""Scores of an evaluation → one self-contained page."""
