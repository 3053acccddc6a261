"""Verdicts against labels: recorded outputs and guards, in the ways that they are counted."""
