"""The time of each operator of a deployment, at any size."""
