"""A guard as a server: one moderation endpoint, with a log of what it was asked."""
