"""Files: documents read and held against a schema, and results written in one step."""

from pathlib import Path

DATA = Path(__file__).parents[1] / "data"  # catalog, forests, presets and the default deployment
