"""How a guard is shown a sample, asked, and read; and what runs it."""
