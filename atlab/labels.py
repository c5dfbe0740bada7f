"""What strategies are called in figures and tables."""

from __future__ import annotations

NAMES = {
    "baseline": "baseline",
    "wi": "WI",
    "frozen_wi": "frozen WI",
    "at": "AT",
    "inverse_at": "inverse AT",
    "dual_at": "dual AT",
    "gradient_reversal": "gradient reversal",
}
