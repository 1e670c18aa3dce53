"""From documents to the tokens, masks and positions of a forward pass."""
