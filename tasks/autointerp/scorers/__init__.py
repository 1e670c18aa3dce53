"""One file per scorer; the registry in ``scorer.py`` imports them all."""
