"""Draws a reliability diagram as an SVG: for whoever decides from which confidence to trust the labels.

Part of `regulars evaluate --task sentiment --picture reliability.svg`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobs.pictures import charts


def reliability_svg(bins: Sequence[Mapping[str, float]], error: float) -> str:
    """Draw one point per confidence bin (Guo et al. 2017) and return the SVG text.

    Each bin has `reviews`, its mean `confidence` and its `accuracy`; `error` is the expected calibration error.
    A point stands at its mean confidence. It lies on the diagonal when the bin is calibrated.
    """
    reviews = sum(one["reviews"] for one in bins)
    return charts.points(
        f"{reviews:,.0f} reviews, expected calibration error {error:.3f}",
        {
            "right as often as it says": [(0.0, 0.0), (1.0, 1.0)],
            "model": [(one["confidence"], one["accuracy"]) for one in bins],
        },
        "confidence",
        "share that was right",
        range=(0, 1),
        xrange=(0, 1),
    )
