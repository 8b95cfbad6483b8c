"""Draws a reliability diagram as an SVG: for whoever decides from which confidence to trust the labels.

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


def reliability_svg(bins: Sequence[Mapping[str, float]], error: float) -> str:
    """Draw one bar per confidence bin (Guo et al. 2017) and return the SVG text.

    Each bin has `reviews`, its mean `confidence` and its `accuracy`; `error` is the expected calibration error.
    A bar stands at its mean confidence. Its top lies on the diagonal when the bin is calibrated.
    """
    bars = [
        f'<rect x="{_MARGIN + one["confidence"] * _SIDE - 12:.1f}" '
        f'y="{_MARGIN + (1 - one["accuracy"]) * _SIDE:.1f}" width="24" height="{one["accuracy"] * _SIDE:.1f}" '
        f'fill="steelblue"><title>{one["accuracy"]:.3f} of {one["reviews"]:,.0f} reviews were right, '
        f"mean confidence {one['confidence']:.3f}</title></rect>"
        for one in bins
    ]
    reviews = sum(one["reviews"] for one in bins)
    return _PAGE.substitute(bars="\n".join(bars), reviews=f"{reviews:,.0f}", error=f"{error:.3f}")
