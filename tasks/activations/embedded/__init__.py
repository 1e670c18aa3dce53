"""The embedded language models, their recipes, and their training (`train.py`)."""
