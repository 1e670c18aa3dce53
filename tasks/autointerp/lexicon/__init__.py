"""Rules about tokens: what they are, what they say in words, how they are found."""
