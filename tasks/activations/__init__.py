"""Language models, hookpoints, token packing, and activations cached on disk."""
