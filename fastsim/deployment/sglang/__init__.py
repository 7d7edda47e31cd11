"""SGLang: its releases, the defaults that a server takes, and the memory of its KV cache."""
