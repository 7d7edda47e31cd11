"""vLLM V1: its engine loop, the calls of its scheduler, and its batches from their formation to their end."""
