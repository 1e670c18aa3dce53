"""From documents to the tokens, masks and positions that a forward pass takes."""
