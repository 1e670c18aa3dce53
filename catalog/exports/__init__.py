"""One file per foreign format that a catalogue can be exported to."""
