"""A deployment: its description, and what it resolves to."""
