"""Dense tables, composed from operator times and kept on disk."""
