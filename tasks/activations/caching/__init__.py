"""Caching: a language model is run over a corpus once and its activations are kept on disk."""
