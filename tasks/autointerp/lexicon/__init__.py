"""Rules about tokens: their grammar, their wording, and the search for them."""
