"""What a night would need and do, and whether it can begin: looked at before it does."""
