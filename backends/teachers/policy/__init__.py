"""The built-in policy reasoner: pure Python, no network."""
