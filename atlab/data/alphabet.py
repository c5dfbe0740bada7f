"""The phone alphabet of TIMIT and its foldings to 48 and 39 classes (Lee & Hon 1989)."""

from __future__ import annotations

_61 = [
    "aa",
    "ae",
    "ah",
    "ao",
    "aw",
    "ax",
    "ax-h",
    "axr",
    "ay",
    "b",
    "bcl",
    "ch",
    "d",
    "dcl",
    "dh",
    "dx",
    "eh",
    "el",
    "em",
    "en",
    "eng",
    "epi",
    "er",
    "ey",
    "f",
    "g",
    "gcl",
    "h#",
    "hh",
    "hv",
    "ih",
    "ix",
    "iy",
    "jh",
    "k",
    "kcl",
    "l",
    "m",
    "n",
    "ng",
    "nx",
    "ow",
    "oy",
    "p",
    "pau",
    "pcl",
    "q",
    "r",
    "s",
    "sh",
    "t",
    "tcl",
    "th",
    "uh",
    "uw",
    "ux",
    "v",
    "w",
    "y",
    "z",
    "zh",
]


_TO_48 = dict(
    fold.split(">")
    for fold in [
        "ax-h>ax",
        "axr>er",
        "bcl>vcl",
        "dcl>vcl",
        "gcl>vcl",
        "pcl>cl",
        "tcl>cl",
        "kcl>cl",
        "em>m",
        "eng>ng",
        "h#>sil",
        "pau>sil",
        "hv>hh",
        "nx>n",
        "ux>uw",
    ]
)


_TO_39 = dict(
    fold.split(">") for fold in ["ao>aa", "ax>ah", "el>l", "en>n", "ix>ih", "zh>sh", "cl>sil", "vcl>sil", "epi>sil"]
)


FOLDING = {  # 61 phones -> 48 -> 39 (Lee and Hon 1989, table I); the glottal stop q is left out
    61: {phone: phone for phone in _61},
    48: {phone: _TO_48.get(phone, phone) for phone in _61 if phone != "q"},
}
FOLDING[39] = {phone: _TO_39.get(folded, folded) for phone, folded in FOLDING[48].items()}


PHONES = {size: tuple(sorted(set(folding.values()))) for size, folding in FOLDING.items()}
