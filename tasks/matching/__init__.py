"""Which features of two dictionaries are the same: by direction in one space, by activation across models."""
