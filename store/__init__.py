"""Persistent state of a workspace: tables, migrations, and every query by name. Knows rows, not models."""
