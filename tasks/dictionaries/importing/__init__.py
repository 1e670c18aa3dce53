"""Whether a dictionary of another tool does on this model what it should."""
