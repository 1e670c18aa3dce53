"""Pure drawing from plain rows: nothing here reads the catalogue."""
