"""One file per architecture; the registry in ``tasks.dictionaries.base`` imports them all."""
