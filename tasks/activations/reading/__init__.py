"""Read activations: from a model while it runs, and from a cached set."""
