"""What features fire on: streaming statistics, example contexts and controls."""
