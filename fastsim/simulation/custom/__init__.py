"""Scheduling policies and routers that a user writes: plain Python functions, compiled into the simulation.

A scheduling function has three parameters, ``(replica, chosen, tokens)``. It is called when a request arrives at an
idle replica and whenever an iteration ends. It looks at ``replica`` (a fastsim.kernels.custom.view.ReplicaView), writes
the ids of requests into ``chosen`` and how many tokens of each to process into ``tokens``, and returns how many
requests it has chosen.

- A waiting request gets 1 to ``prefill`` tokens.
- A running request gets at most as many tokens as are left of its prompt, or 1 once it decodes. With 0 tokens it is
  preempted and has to start again.
- What does not fit is left out of the batch, which holds ``max_batch`` requests and ``max_num_batched_tokens`` tokens.
  Admitting a request takes the blocks of its whole prompt and leaves ``watermark_blocks`` free.
- A decode that needs a block when none is free preempts the youngest running request outside the batch, or itself if
  it is the youngest.

A routing function has two parameters, ``(replicas, request)``. It looks at ``replicas`` (a
fastsim.kernels.custom.router.ClusterView) and ``request`` (a fastsim.kernels.custom.router.Arrival), and returns the
number of a replica, counted from 0. ``replicas.cached_tokens[r]`` is how much of the request's prompt replica ``r`` has
in its prefix cache, tokens; what is looked up in the cache does not change it.

Both kinds may use numbers, the module math, NumPy's functions of numbers, fastsim.sort_by, and functions of the user.
They cannot create arrays or lists; what they need to remember goes into ``memo`` and ``notes``.
"""
