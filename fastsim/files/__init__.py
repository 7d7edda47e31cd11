"""Files: reading documents, validating them against a schema, and writing results in one atomic step."""

from pathlib import Path

DATA = Path(__file__).parents[1] / "data"  # catalog, forests, presets and the default deployment
