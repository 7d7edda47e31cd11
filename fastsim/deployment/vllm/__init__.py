"""vLLM's own words: its flags as keys of a deployment, and its commands as whole deployments."""
