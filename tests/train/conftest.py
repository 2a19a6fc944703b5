"""nano's parts at toy width (`toys_train`) on the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
