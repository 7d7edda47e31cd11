"""The result of a simulation: a row per request, a summary of figures, and the files that hold both."""
