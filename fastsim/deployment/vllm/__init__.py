"""vLLM's own words: its flags as keys of a deployment, and what its releases take where flags are left out."""
