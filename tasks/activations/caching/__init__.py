"""Caching: run a language model over a corpus once and store its activations on disk."""
