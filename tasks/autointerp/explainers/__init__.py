"""One file per explainer; the registry in ``explainer.py`` imports them all."""
