"""Dictionaries of other tools: read them, check them on a model, convert them."""
