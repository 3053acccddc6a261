"""The loop: the night and its phases, the measures, and the command line."""
