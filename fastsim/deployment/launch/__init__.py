"""Commands and manifests that start what was simulated."""
