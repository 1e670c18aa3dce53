"""Dictionaries: architectures, encoding, saved weights, the data stream, reconstruction metrics."""
