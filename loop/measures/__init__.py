"""The math of the loop: pure functions without a store or a model."""
