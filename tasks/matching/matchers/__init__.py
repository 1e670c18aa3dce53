"""One matcher per file."""
