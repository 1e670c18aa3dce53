"""Automatic interpretation: explains in words what a feature responds to, and scores the explanation."""
