"""KV blocks, and the queues of requests that hold them or wait for them."""
