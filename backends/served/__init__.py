"""Guards behind a server of completions with log-probabilities."""
