"""Replicas, their pipeline stages, and the router before them."""
