"""Prompt templates, one versioned text file each: a system part and a user part divided by ``---``.

A changed prompt is a new file with a higher version; the digest of the file is part of every fingerprint.
"""
