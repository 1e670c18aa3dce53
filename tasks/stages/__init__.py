"""The stages: one file each, which resolves references, claims the unit, calls pure code and commits."""
