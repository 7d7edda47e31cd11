"""Models, devices and nodes: the shipped catalog, any Hugging Face config.json, device files."""
