"""Draws how far probabilities mean what they say, as an SVG: for whoever decides from which confidence to trust them.

Part of `regulars evaluate --task sentiment --picture reliability.svg`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template

_SIDE, _MARGIN = 400, 50
_PAGE = Template(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 500 500" font-family="sans-serif" font-size="13">\n'
    '<rect width="500" height="500" fill="white"/>\n'
    "$bars\n"
    '<path d="M50 450 450 50" stroke="black" stroke-dasharray="4"/>\n'
    '<path d="M50 50V450H450" fill="none" stroke="black"/>\n'
    '<text x="250" y="485" text-anchor="middle">confidence, 0 to 1</text>\n'
    '<text x="20" y="250" text-anchor="middle" transform="rotate(-90 20 250)">share that was right, 0 to 1</text>\n'
    '<text x="250" y="30" text-anchor="middle">$reviews reviews, expected calibration error $error</text>\n'
    "</svg>\n"
)


def picture(bins: Sequence[Mapping[str, float]], error: float) -> str:
    """An SVG with a bar for each bin of confidence: `from`, `reviews`, mean `confidence`, `accuracy` (Guo et al. 2017).

    A bar stands at its mean confidence; one whose top is on the diagonal is calibrated. Hovering tells its numbers.
    """
    bars = [
        f'<rect x="{_MARGIN + found["confidence"] * _SIDE - 12:.1f}" '
        f'y="{_MARGIN + (1 - found["accuracy"]) * _SIDE:.1f}" width="24" height="{found["accuracy"] * _SIDE:.1f}" '
        f'fill="steelblue"><title>{found["accuracy"]:.3f} of {found["reviews"]:,.0f} reviews were right, '
        f"mean confidence {found['confidence']:.3f}</title></rect>"
        for found in bins
    ]
    reviews = sum(found["reviews"] for found in bins)
    return _PAGE.substitute(bars="\n".join(bars), reviews=f"{reviews:,.0f}", error=f"{error:.3f}")
