"""What the program is for: the night, its phases, the mathematics, the command line."""
