"""Small pictures as SVG text: axes, curves, points. Colours are classes of the page's style sheet, light and dark.

Drawn here rather than by matplotlib because a report holds a thousand pictures in a few megabytes, each of which must
follow the reader's colours and width. Knows nothing of what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 16.0, 20.0, 32.0
_TICK = 4.0
_WIDE = 600.0  # from which on a picture takes a page's whole width


def ticks(low: float, high: float, most: int = 6) -> NDArray[np.float64]:
    """Round numbers between two, at most so many."""
    span = high - low
    if not (np.isfinite(span) and span > 0.0):
        return np.array([low])
    rough = span / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(size * power for size in (1.0, 2.0, 5.0, 10.0) if size * power >= rough * (1.0 - 1e-9))
    first = np.ceil(low / step - 1e-9)
    return np.asarray(step * np.arange(first, np.floor(high / step + 1e-9) + 1.0))


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".") if value else "0"


def _label(value: float) -> str:
    return f"{value + 0.0:.6g}".replace("-", "−")


def within(values: ArrayLike, share: float = 0.06) -> tuple[float, float]:
    """Limits that hold all finite values with some room; 0 to 1 if there is none."""
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    room = share * (high - low) or max(1.0, abs(high)) * share
    return low - room, high + room


@dataclass(frozen=True)
class Picture:
    """A chart that is drawn."""

    what: str
    """What it shows."""
    svg: str
    """SVG text."""
    wide: bool
    """Whether it takes the page's whole width."""


@dataclass
class Chart:
    """A pair of axes that is drawn on, then written by :meth:`svg`."""

    x: tuple[float, float]
    """Limits of the horizontal axis."""
    y: tuple[float, float]
    """Limits of the vertical axis."""
    what: str
    """What the picture shows, for those who cannot see it, and above it."""
    x_label: str = ""
    """Below the horizontal axis."""
    y_label: str = ""
    """Beside the vertical axis."""
    width: float = 420.0
    """In units of the page's pixels, before it is scaled."""
    height: float = 240.0
    """The same."""
    y_ticks: bool = True
    """Whether the vertical axis has numbers."""
    _parts: list[str] = field(default_factory=list, repr=False)

    def at_x(self, values: ArrayLike) -> NDArray[np.float64]:
        """Places of values along the picture's width."""
        low, high = self.x
        return _LEFT + (np.asarray(values, np.float64) - low) / (high - low) * (self.width - _LEFT - _RIGHT)

    def at_y(self, values: ArrayLike) -> NDArray[np.float64]:
        """Places of values down the picture's height."""
        low, high = self.y
        return (
            self.height
            - _BOTTOM
            - (np.asarray(values, np.float64) - low) / (high - low) * (self.height - _TOP - _BOTTOM)
        )

    def line(self, x: ArrayLike, y: ArrayLike, style: str) -> None:
        """A curve, broken where a value is not finite."""
        across, down = self.at_x(x), np.clip(self.at_y(y), -99.0, 9999.0)
        there = np.isfinite(across) & np.isfinite(down)
        for run in np.split(np.flatnonzero(there), np.flatnonzero(np.diff(np.flatnonzero(there)) > 1) + 1):
            if len(run) > 1:
                points = " ".join(f"{_number(across[i])},{_number(down[i])}" for i in run)
                self._parts.append(f'<polyline class="{style}" points="{points}"/>')

    def points(
        self,
        x: ArrayLike,
        y: ArrayLike,
        style: str,
        *,
        error: ArrayLike | None = None,
        x_error: ArrayLike | None = None,
        radius: float = 3.0,
        titles: Sequence[str] | None = None,
    ) -> None:
        """Points, with bars of their errors; ``titles`` are shown where a pointer rests."""
        x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        for bars, along in ((error, False), (x_error, True)):
            if bars is None:
                continue
            half = np.broadcast_to(np.asarray(bars, np.float64), x.shape)
            ends = [(x - half, y), (x + half, y)] if along else [(x, y - half), (x, y + half)]
            places = [(self.at_x(each), self.at_y(other)) for each, other in ends]
            for row in np.flatnonzero(np.isfinite(x) & np.isfinite(y) & np.isfinite(half)).tolist():
                corner = [_number(float(values[row])) for pair in places for values in pair]
                self._parts.append(
                    f'<line class="{style} bar" x1="{corner[0]}" y1="{corner[1]}" x2="{corner[2]}" y2="{corner[3]}"/>'
                )
        across, down = self.at_x(x), self.at_y(y)
        for row in np.flatnonzero(np.isfinite(across) & np.isfinite(down)).tolist():
            title = f"<title>{escape(titles[row])}</title>" if titles is not None else ""
            self._parts.append(
                f'<circle class="{style}" cx="{_number(across[row])}" cy="{_number(down[row])}" r="{radius:g}">'
                f"{title}</circle>"
            )

    def bars(self, edges: ArrayLike, heights: ArrayLike, style: str) -> None:
        """A histogram."""
        ends, tops = self.at_x(edges), self.at_y(heights)
        floor = float(self.at_y(self.y[0]))
        for left, right, top in zip(ends[:-1], ends[1:], tops, strict=True):
            if np.isfinite(top) and floor - top > 0.0:
                self._parts.append(
                    f'<rect class="{style}" x="{_number(left)}" y="{_number(top)}" '
                    f'width="{_number(max(right - left - 0.6, 0.4))}" height="{_number(floor - top)}"/>'
                )

    def cell(self, x: float, y: float, size: float, style: str, opacity: float) -> None:
        """A square of so many units of the axes, from its lower corner."""
        (left, right), (floor, top) = np.sort(self.at_x([x, x + size])), np.sort(self.at_y([y, y + size]))
        self._parts.append(
            f'<rect class="{style}" x="{_number(left)}" y="{_number(floor)}" width="{_number(right - left)}" '
            f'height="{_number(top - floor)}" opacity="{opacity:.2f}"/>'
        )

    def mark(self, x: float, style: str, text: str = "") -> None:
        """A vertical line, with words at its top."""
        if not self.x[0] <= x <= self.x[1]:
            return
        place = _number(float(self.at_x(x)))
        self._parts.append(
            f'<line class="{style}" x1="{place}" y1="{_TOP}" x2="{place}" y2="{_number(self.height - _BOTTOM)}"/>'
        )
        if text:
            self._parts.append(
                f'<text class="note" x="{place}" y="{_TOP - 3:g}" text-anchor="middle">{escape(text)}</text>'
            )

    def level(self, y: float, style: str) -> None:
        """A horizontal line."""
        place = _number(float(self.at_y(y)))
        self._parts.append(
            f'<line class="{style}" x1="{_LEFT:g}" y1="{place}" x2="{_number(self.width - _RIGHT)}" y2="{place}"/>'
        )

    def tick(self, x: float, y: float, style: str, length: float = 7.0) -> None:
        """A short vertical stroke that ends at a point from above."""
        if self.x[0] <= x <= self.x[1]:
            across, down = _number(float(self.at_x(x))), float(self.at_y(y))
            self._parts.append(f'<path class="{style}" d="M{across} {_number(down - length)}V{_number(down)}"/>')

    def aside(self, y: float, text: str) -> None:
        """Words left of the axis, where there are no numbers."""
        self._parts.append(
            f'<text class="note" x="{_LEFT - 5:g}" y="{_number(float(self.at_y(y)))}" text-anchor="end">'
            f"{escape(text)}</text>"
        )

    def picture(self) -> Picture:
        """The picture, drawn."""
        return Picture(self.what, self.svg(), self.width > _WIDE)

    def svg(self) -> str:
        """The picture as SVG text."""
        right, floor = self.width - _RIGHT, self.height - _BOTTOM
        frame = [f'<path class="axis" d="M{_LEFT:g} {_TOP:g}V{floor:g}H{right:g}"/>']
        for value in ticks(min(self.x), max(self.x)):
            place = _number(float(self.at_x(value)))
            frame.append(f'<path class="axis" d="M{place} {floor:g}v{_TICK:g}"/>')
            frame.append(f'<text x="{place}" y="{floor + 14:g}" text-anchor="middle">{_label(float(value))}</text>')
        if self.y_ticks:
            for value in ticks(*self.y, most=5):
                place = _number(float(self.at_y(value)))
                frame.append(f'<path class="axis" d="M{_LEFT:g} {place}h-{_TICK:g}"/>')
                down = _number(float(place) + 3.5)
                frame.append(f'<text x="{_LEFT - 6:g}" y="{down}" text-anchor="end">{_label(float(value))}</text>')
        middle = _number((_LEFT + right) / 2.0)
        frame.append(f'<text x="{middle}" y="{self.height - 4:g}" text-anchor="middle">{escape(self.x_label)}</text>')
        if self.y_label:
            down = _number((_TOP + floor) / 2.0)
            frame.append(
                f'<text transform="translate(11 {down}) rotate(-90)" text-anchor="middle">{escape(self.y_label)}</text>'
            )
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(self.what)}">'
            f"{''.join(frame)}{''.join(self._parts)}</svg>"
        )


def sparkline(values: ArrayLike, what: str, width: float = 96.0, height: float = 26.0) -> str:
    """A curve without axes, for a row of a table."""
    y = np.asarray(values, np.float64)
    there = np.isfinite(y)
    if np.count_nonzero(there) < 2:
        return ""
    low, high = np.percentile(y[there], (0.5, 99.5))
    down = height - 2.0 - np.clip((y - low) / max(high - low, 1e-9), -0.1, 1.1) * (height - 4.0)
    across = np.linspace(0.0, width, len(y))
    points = " ".join(f"{_number(across[i])},{_number(down[i])}" for i in np.flatnonzero(there))
    return (
        f'<svg class="spark" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(what)}">'
        f'<polyline class="flux" points="{points}"/></svg>'
    )
