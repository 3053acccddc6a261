"""What is remembered: tables, migrations, every question by name. Knows rows, and no model."""
