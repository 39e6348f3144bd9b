"""The picture of the error rates, as SVG text that reads well on white and on dark pages."""

from __future__ import annotations

from html import escape

WIDTH, HEIGHT = 860, 400
LEFT, RIGHT, TOP, BOTTOM = 62, 320, 58, 52
EFFECTS = (0, 2, 3, 5, 7, 10, 20)
COLOURS = ("#9aa0a6", "#b07aa1", "#76b7b2", "#edc948", "#e15759", "#59a14f", "#f28e2b", "#8fb4f0")
OURS_COLOUR = "#1f5fd0"


def picture(curves: dict[str, list[tuple[float, float, float, float]]]) -> str:
    """FAIL rate over the true effect, one line a rule; the last rule is ours and stands out.

    Args:
        curves: Per rule (effect in %, share of FAIL, lower and upper end of its interval).
    """
    names = list(curves)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="600" fill="#202124">'
        "How often is a run failed? (recorded noisy machine)</text>",
        _shaded(),
        *_axes(),
    ]
    ends = []
    for number, name in enumerate(names):
        ours = number == len(names) - 1
        colour = OURS_COLOUR if ours else COLOURS[number % len(COLOURS)]
        points = sorted(curves[name])
        if ours:
            band = [(e, high) for e, _, _, high in points] + [(e, low) for e, _, low, _ in reversed(points)]
            parts.append(f'<polygon points="{_points(band)}" fill="{colour}" opacity="0.13"/>')
        parts.append(
            f'<polyline points="{_points([(e, share) for e, share, _, _ in points])}" fill="none" '
            f'stroke="{colour}" stroke-width="{3.2 if ours else 1.8}" stroke-linejoin="round"/>'
        )
        ends.append((name, colour, ours))
    parts += [_legend(place, *end) for place, end in enumerate(reversed(ends))]
    return "\n".join([*parts, "</svg>", ""])


def _x(effect: float) -> float:
    return LEFT + effect / 20 * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _points(values: list[tuple[float, float]]) -> str:
    return " ".join(f"{_x(effect):.1f},{_y(share):.1f}" for effect, share in values)


def _shaded() -> str:
    return (
        f'<rect x="{_x(0):.1f}" y="{_y(1):.1f}" width="{_x(5) - _x(0):.1f}" height="{_y(0) - _y(1):.1f}" '
        f'fill="#e8f0e8"/><text x="{_x(2.5):.1f}" y="{_y(1) - 6:.1f}" text-anchor="middle" fill="#4a6b4a">'
        "allowed</text>"
    )


def _axes() -> list[str]:
    parts = []
    for percent in (0, 25, 50, 75, 100):
        y = _y(percent / 100)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dadce0"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#5f6368">{percent} %</text>'
        )
    for effect in EFFECTS:
        label = f"+{effect}" if effect else "0"
        place = f'x="{_x(effect):.1f}" y="{_y(0) + 18:.1f}" text-anchor="middle"'
        parts.append(f'<text {place} fill="#5f6368">{label}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle" fill="#202124">'
        "true slow-down of the candidate, %</text>"
    )
    return parts


def _legend(place: int, name: str, colour: str, ours: bool) -> str:
    x, y = WIDTH - RIGHT + 22, TOP + 12 + 24 * place
    weight = ' font-weight="600"' if ours else ""
    return (
        f'<line x1="{x}" x2="{x + 22}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" '
        f'stroke-width="{3.2 if ours else 1.8}"/>'
        f'<text x="{x + 30}" y="{y}" fill="#202124"{weight}>{escape(name)}</text>'
    )
