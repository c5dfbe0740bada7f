"""Progress bars of a kernel without a reader are text, once this is imported: `tqdm.auto` would take widgets.

A stored notebook keeps no widget state, so a widget's bar would stay at 0 %; text keeps its last state, and reaches the terminal.
"""

import sys

import tqdm

sys.modules["tqdm.auto"] = tqdm.auto = tqdm  # type: ignore[attr-defined]
