"""Measures of every dictionary: reconstruction, sparsity, geometry, fidelity, controls."""
