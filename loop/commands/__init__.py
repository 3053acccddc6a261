"""The command line: one module a theme, each importing what it needs when it runs."""
