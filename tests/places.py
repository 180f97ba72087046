"""Where things are: the repository, and the GRID corpus, which is beside it or nowhere."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
GRID = Path(os.environ.get("MMLEARN_GRID") or ROOT.parent / "shared" / "data" / "grid")
