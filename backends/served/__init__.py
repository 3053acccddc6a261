"""Guards on a completions server with log-probabilities."""
