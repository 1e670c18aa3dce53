"""What a dictionary is good for beyond reconstruction: suites of metrics, each beside its null."""
