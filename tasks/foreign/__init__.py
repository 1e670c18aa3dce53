"""Dictionaries of other tools: reading them, checking them on a model, turning them into ours."""
