"""Bar charts as SVG, of our own making: one bar a line, the spread of the rounds as a thin line."""

from html import escape

WIDTH, LABEL, VALUE = 880, 250, 150
ROW, BAR, TOP, BOTTOM = 30, 18, 58, 16
COLOURS = {"ours": "#1d6fb8", "bare": "#9aa5b1", "peer": "#d98c3f"}
STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #24292f }
    .title { font-size: 16px; font-weight: 600 }
    .note { font-size: 12px; fill: #6e7781 }
    .spread { stroke: #24292f; stroke-width: 1.2; opacity: .55 }
    .ground { fill: #ffffff }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .note { fill: #8b949e } .ground { fill: #0d1117 } .spread { stroke: #e6edf3 }
    }
"""


def _row(line, y, scale):
    kind = line["kind"] if line["kind"] in ("ours", "bare") else "peer"
    middle = y + BAR / 2
    label = f'<text x="{LABEL - 10}" y="{middle + 4.5:.1f}" text-anchor="end">{escape(line["label"])}</text>'
    if line["value"] is None:
        return f'{label}<text class="note" x="{LABEL}" y="{middle + 4.5:.1f}">{escape(line["text"])}</text>'
    width = max(line["value"] * scale, 1.5)
    low, high = line["min"] * scale, line["max"] * scale
    after = LABEL + max(width, high) + 8
    return (f'{label}<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"'
            f' fill="{COLOURS[kind]}"/>'
            f'<path class="spread" d="M{LABEL + low:.1f} {middle}H{LABEL + high:.1f}"/>'
            f'<text x="{after:.1f}" y="{middle + 4.5:.1f}">{escape(line["text"])}</text>')


def bars(title, note, lines):
    """`lines`: dictionaries of label, kind (a system's key), value, min, max, text; a value of None has
    only its text."""
    largest = max((line["max"] for line in lines if line["value"] is not None), default=0)
    scale = (WIDTH - LABEL - VALUE) / largest if largest > 0 else 0
    height = TOP + ROW * len(lines) + BOTTOM
    rows = "\n".join(_row(line, TOP + ROW * i, scale) for i, line in enumerate(lines))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
            f' height="{height}" role="img" aria-label="{escape(title)}">\n<style>{STYLE}</style>\n'
            f'<rect class="ground" width="{WIDTH}" height="{height}"/>\n'
            f'<text class="title" x="16" y="26">{escape(title)}</text>\n'
            f'<text class="note" x="16" y="45">{escape(note)}</text>\n{rows}\n</svg>\n')
