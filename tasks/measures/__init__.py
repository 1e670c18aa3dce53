"""What is measured of every dictionary: reconstruction, sparsity, geometry, fidelity, controls."""
