"""What every stage shares: registry, strict configuration, device and seed, progress."""
