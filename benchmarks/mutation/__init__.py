"""Mutation testing: which mutants are made, which tests run each, and what comes of it. `mutants.py` is the command."""
