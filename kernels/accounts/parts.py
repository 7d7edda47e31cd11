"""Columns of where the time of a request goes."""

import numpy as np

# Columns of Requests.parts, s.
(
    CHUNK_WAIT,  # time on no stage between the first batch and the first token
    DECODE_WAIT,  # time on no stage after the first token
    OTHER_WORK,  # how much longer its decode iterations take than they would with their decodes alone
    PREFILL_HOST,  # host time of the iterations that process its chunks
    DECODE_HOST,  # host time of its decode iterations
    LOST_PREFILL,  # time from restarts before the first token until all tokens are computed again
    LOST_DECODE,  # time from restarts after the first token until all tokens are computed again
    LAUNCH_WAIT,  # vllm_v1: time from when it was first scheduled to the start of its batch
    SINCE,  # when its first batch started, its last chunk ended, or it restarted
    RESTARTED_IN,  # vllm_v1: the call of the scheduler that preempted it last
    NUM_PARTS,
) = range(11)

# Requests.detail says by its type whether to count: a kernel compiled for NO_DETAIL has no code that counts.
DETAIL, NO_DETAIL = np.empty((0, 0)), np.empty(0)
