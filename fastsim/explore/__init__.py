"""`fastsim explore`: a local page that asks "what if" of a deployment and its load, and answers while it is changed."""
