"""One file per format of another tool; the registry in `tasks.foreign.format` imports them all."""
