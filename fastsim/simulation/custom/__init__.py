"""Scheduling policies and routers of the user's: plain Python functions, compiled into the simulation.

A scheduling function has three parameters, ``(replica, chosen, tokens)``. It is called when a request arrives at an
idle replica and whenever an iteration ends, looks at ``replica``
(fastsim.kernels.custom.view.ReplicaView), writes requests into ``chosen`` and how many tokens of each into
``tokens``, and returns how many it has chosen. A waiting request is
given 1 to ``prefill`` tokens, a running one at most those left of its prompt, or 1 when it decodes; 0 tokens restart
a running request. What does not fit is not chosen: a batch holds ``max_batch`` requests and
``max_num_batched_tokens`` tokens, admission takes the blocks of the whole prompt and leaves ``watermark_blocks`` free.
A decode that needs a block when none is free restarts the youngest running request outside the batch, or itself.

A routing function has two parameters, ``(replicas, request)``: it looks at ``replicas``
(fastsim.kernels.custom.router.ClusterView) and
``request`` (fastsim.kernels.custom.router.Arrival) and returns a replica, from 0.

Both may use numbers, math, numpy's functions of numbers, fastsim.sort_by and functions of their own. They may not
create arrays or lists; ``memo`` and ``notes`` are there to remember.
"""
