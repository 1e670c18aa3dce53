"""What a dictionary is: architectures, encoding, weights on disk, the data it reads, reconstruction."""
