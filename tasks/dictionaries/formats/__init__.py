"""Dictionaries of other tools: one file per format; the registry in ``formats.format`` imports them all."""
