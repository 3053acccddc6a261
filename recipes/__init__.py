"""Definition of a run: recipe schema, shipped recipes, policies, instruction, demo pool."""
