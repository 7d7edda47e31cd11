"""A result: a row per request, figures, and the files that hold them."""
