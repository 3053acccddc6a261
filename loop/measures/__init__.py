"""The mathematics of the loop: pure functions, no store and no model."""
