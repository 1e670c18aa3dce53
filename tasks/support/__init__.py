"""What stages share: units of work, evidence read from the catalogue, registration, aliases, endpoints."""
