"""Automatic interpretation: what a feature responds to, in words, and how well the words hold."""
