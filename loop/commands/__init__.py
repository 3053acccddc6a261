"""The command line: one module per theme, each importing what it needs when it runs."""
