"""Prefill and decode on different replicas: KV that goes from one to the other."""
