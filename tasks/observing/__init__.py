"""What features do on sets of documents: associations with labels, and differences between sets and texts."""
