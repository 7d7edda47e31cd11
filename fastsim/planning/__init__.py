"""Planning: capacity, the best deployment of a space, and fleets."""
