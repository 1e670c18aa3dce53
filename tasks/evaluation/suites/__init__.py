"""One file per suite; importing this folder registers them."""
