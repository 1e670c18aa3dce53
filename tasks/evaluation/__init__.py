"""What a dictionary is good for besides reconstruction: suites of metrics, each with its null."""
