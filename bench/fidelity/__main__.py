"""`python bench/fidelity GROUNDTRUTH`: see board.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where this folder is a package

from fidelity.board import main

if __name__ == "__main__":
    sys.exit(main())
