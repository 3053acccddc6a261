"""What a run is: the schema, the shipped recipes, the policies, the instruction, the demo pool."""
