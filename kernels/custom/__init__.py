"""Schedulers and routers that a user writes: the view they get, and the loops that call them."""
