"""The models, devices and nodes that fastsim ships, and the models and devices that files describe."""
