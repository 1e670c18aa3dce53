"""Language models: their files, their hookpoints, and the one file that loads them."""
