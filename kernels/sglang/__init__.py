"""SGLang: the passes of its loop, its prefills and decodes, and its batches from their formation to their end."""
