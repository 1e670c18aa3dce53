"""Mining: streaming statistics, example contexts and controls of features."""
