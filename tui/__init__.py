"""The terminal app. Talks only to the store, and to plugins for the names of export formats."""
