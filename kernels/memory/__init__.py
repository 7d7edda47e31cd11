"""KV blocks, admission, and the queues of requests that hold blocks or wait for them."""
