"""A diagram as SVG that stands alone: own background, light and dark, no script and no font of its own."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from towerspec.graph.cards import DOT, DOTS, STRIP, Words, chips, words
from towerspec.graph.diagram import Diagram
from towerspec.graph.page import FOOT, LINE, MARGIN, layout
from towerspec.graph.palette import colour
from towerspec.graph.scene import Band, Box, Card, Point, Scene, Tag, Wire
from towerspec.graph.text import width

STYLE = """
text { font-family: Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
.paper { fill: #ffffff } .ink { fill: #1e293b } .muted { fill: #5b6879 }
.card { fill: #ffffff; stroke: #94a3b8 } .band { fill: #f1f5f9; stroke: #e2e8f0 } .chip { fill: #eef2f6 }
.tag { fill: #ffffff; stroke: #e2e8f0 } .wire { stroke: #64748b } .tip { fill: #64748b }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0f172a } .ink { fill: #e8edf4 } .muted { fill: #9fb0c5 }
  .card { fill: #1b263b; stroke: #64748b } .band { fill: #162033; stroke: #2a3850 } .chip { fill: #2a3850 }
  .tag { fill: #0f172a; stroke: #334155 } .wire { stroke: #8fa0b7 } .tip { fill: #8fa0b7 }
}
"""


def to_svg(diagram: Diagram) -> str:
    """The diagram as one SVG document.

    >>> to_svg(Diagram("m", "no surfaces", (), (), ())).splitlines()[1]
    '<title id="title">m</title>'
    """
    scene = layout(diagram)
    size = f"{_n(scene.width)} {_n(scene.height)}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{_n(scene.width)}" '
        f'height="{_n(scene.height)}" role="img" aria-labelledby="title desc">'
    )
    return "\n".join([head, *_document(diagram, scene), "</svg>", ""])


def _document(diagram: Diagram, scene: Scene) -> Iterator[str]:
    yield f'<title id="title">{escape(diagram.model)}</title>'
    yield f'<desc id="desc">{escape(description(diagram))}</desc>'
    yield f"<style>{STYLE}</style>"
    yield f'<rect class="paper" width="{_n(scene.width)}" height="{_n(scene.height)}"/>'
    yield _text(Words(MARGIN, 42, diagram.model, 22, scene.width, bold=True))
    yield _text(Words(MARGIN, 62, diagram.summary, 12, scene.width, muted=True))
    for band in scene.bands:
        yield from _band(band)
    for wire in scene.wires:
        yield from _wire(wire)
    for tag in scene.tags:
        yield from _tag(tag)
    tones = {name: index for index, lane in enumerate(diagram.lanes) for name in lane.names}
    for card in scene.cards:
        yield from _card(card, tones)
    yield from _legend(scene)


def description(diagram: Diagram) -> str:
    """The picture in words, for those who can't see it."""
    lanes = []
    for lane in diagram.lanes:
        heads = [f"{n.title} ({n.detail})" for n in lane.nodes if n.role == "head"]
        lanes.append(f"{', '.join(lane.names)}: heads {', '.join(dict.fromkeys(heads))}")
    return f"{diagram.summary}. " + "; ".join(lanes) + "."


# ---- parts -------------------------------------------------------------------------------------


def _band(band: Band) -> Iterator[str]:
    box = band.box
    yield f"<g>{_tip(band.tip)}"
    if band.tone is None:
        yield _rect(box, 'class="band" rx="14"')
    else:
        tone = colour(band.tone)
        yield _rect(box, f'fill="{tone}" fill-opacity="0.07" stroke="{tone}" stroke-opacity="0.35" rx="14"')
        yield f'<circle cx="{_n(box.x + 24)}" cy="{_n(box.y + 23)}" r="6" fill="{tone}"/>'
    x, size = box.x + (38 if band.tone is not None else 18), 15 if len(band.heading) == 1 else 13
    for index, line in enumerate(band.heading):
        yield _text(Words(x, box.y + 28 + index * LINE, line, size, box.w, bold=True))
    if band.note:
        yield _text(Words(x, box.y + 27 + len(band.heading) * LINE - 3, band.note, 11, box.w, muted=True))
    yield "</g>"


def _card(card: Card, tones: dict[str, int]) -> Iterator[str]:
    node, tone = card.node, None if card.tone is None else colour(card.tone)
    yield f"<g>{_tip(node.text)}"
    yield from _shape(card, tone)
    for chip in chips(card) if node.role == "features" else ():
        yield f"<g>{_tip(chip.tip)}"
        yield _rect(chip.box, 'class="chip" rx="11"')
        if chip.on:
            yield from _dots([tones[s] for s in chip.on if s in tones], chip.box.right - 4, chip.box.y + 2, 3)
        yield f"{_text(chip.words)}</g>"
    if node.owners:
        owners = list(dict.fromkeys(tones[s] for s in node.owners if s in tones))
        yield from _dots(owners[:DOTS], card.box.right - 13, card.box.y + 15, 4)
    yield from map(_text, words(card))
    yield "</g>"


def _shape(card: Card, tone: str | None) -> Iterator[str]:
    box, role = card.box, card.node.role
    stroke = f'stroke="{tone}"' if tone else ""
    # A presentation attribute yields to the style sheet, so that a colour of its own goes into `style`.
    own = f' style="stroke:{tone}"' if tone else ""
    radius = {"join": box.h / 2, "arm": box.h / 2, "tap": 8, "features": 12}.get(role, 9)
    dash = ' stroke-dasharray="4 3"' if role == "tap" else ""
    yield _rect(box, f'class="card" rx="{_n(radius)}" stroke-width="1.3"{own}{dash}')
    if tone and role in ("fusion", "branch", "arm"):
        yield _rect(box, f'fill="{tone}" fill-opacity="0.2" {stroke} rx="{_n(radius)}"')
    if role == "fusion":
        yield from _plus((box.right - 20, box.cy), tone)
    if role == "head" and card.node.calibration:
        yield from _calibration(box, tone)


def _plus(at: Point, tone: str | None) -> Iterator[str]:
    x, y = at
    fill = f'fill="{tone}"' if tone else 'class="tip"'
    yield f'<circle cx="{_n(x)}" cy="{_n(y)}" r="8" {fill}/>'
    yield f'<path d="M{_n(x - 4)} {_n(y)}h8M{_n(x)} {_n(y - 4)}v8" stroke="#ffffff" stroke-width="1.6"/>'


def _calibration(box: Box, tone: str | None) -> Iterator[str]:
    """A strip at the foot of a head's card, with a curve that bends to the diagonal."""
    y, r = box.bottom - STRIP, 9
    fill = f'fill="{tone}" fill-opacity="0.14"' if tone else 'class="chip"'
    corners = f"a{r} {r} 0 0 1 {-r} {r}h{_n(2 * r - box.w)}a{r} {r} 0 0 1 {-r} {-r}z"
    yield f'<path d="M{_n(box.x)} {_n(y)}h{_n(box.w)}v{_n(STRIP - r)}{corners}" {fill}/>'
    line = f'style="stroke:{tone}"' if tone else ""
    x = box.x + 11
    yield f'<path d="M{_n(x)} {_n(y + 16)}c6 0 5 -9 11 -9" class="wire" fill="none" stroke-width="1.8" {line}/>'


def _dots(tones: list[int], right: float, y: float, r: float) -> Iterator[str]:
    for place, tone in enumerate(reversed(tones)):
        yield f'<circle cx="{_n(right - place * DOT)}" cy="{_n(y)}" r="{_n(r)}" fill="{colour(tone)}"/>'


def _tag(tag: Tag) -> Iterator[str]:
    yield _rect(tag.box, f'class="tag" rx="{_n(tag.box.h / 2)}"')
    yield _text(Words(tag.box.cx, tag.box.y + 12.5, tag.text, 10.5, tag.box.w, muted=True, anchor="middle"))


def _wire(wire: Wire) -> Iterator[str]:
    own = f' style="stroke:{colour(wire.tone)}"' if wire.tone is not None else ""
    dash = ' stroke-dasharray="5 4"' if wire.dashed else ""
    path = _curved(wire.points) if wire.curved else _rounded(wire.points)
    yield f'<g>{_tip(wire.tip)}<path d="{path}" class="wire" fill="none" stroke-width="1.6"{own}{dash}/>'
    if wire.arrow:
        fill = f' style="fill:{colour(wire.tone)}"' if wire.tone is not None else ""
        yield f'<path d="{_arrow(*wire.points[-2:])}" class="tip"{fill}/>'
    yield "</g>"


def _legend(scene: Scene) -> Iterator[str]:
    x, y = MARGIN, scene.height - FOOT + 30
    for dash, label in (("5 4", "request: once a request"), ("", "candidate: once for each candidate")):
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        yield f'<path d="M{_n(x)} {_n(y - 4)}h30" class="wire" fill="none" stroke-width="1.6"{dashes}/>'
        yield _text(Words(x + 38, y, label, 11, 300, muted=True))
        x += 38 + width(label, 11) + 24
    yield from _dots([0, 1], x + 15, y - 4, 4)
    yield _text(Words(x + 28, y, "these surfaces alone: own parameters, or a feature", 11, 300, muted=True))


# ---- primitives --------------------------------------------------------------------------------


def _text(w: Words) -> str:
    bold = ' font-weight="600"' if w.bold else ""
    anchor = f' text-anchor="{w.anchor}"' if w.anchor != "start" else ""
    place = f'x="{_n(w.x)}" y="{_n(w.y)}" font-size="{_n(w.size)}"'
    return f'<text {place} class="{"muted" if w.muted else "ink"}"{bold}{anchor}>{_xml(w.text)}</text>'


def _rect(box: Box, rest: str) -> str:
    return f'<rect x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.w)}" height="{_n(box.h)}" {rest}/>'


def _tip(text: str) -> str:
    return f"<title>{_xml(text)}</title>" if text else ""


def _xml(text: str) -> str:
    """Text that is safe in XML, which has no way to write most control characters.

    >>> _xml('</text><script>')
    '&lt;/text&gt;&lt;script&gt;'
    """
    return escape("".join(c if c >= " " and c not in "\ufffe\uffff" else " " for c in text))


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _curved(points: tuple[Point, ...]) -> str:
    """Between each two points a curve that leaves and arrives upright."""
    x, y = points[0]
    parts = [f"M{_n(x)} {_n(y)}"]
    for nx, ny in points[1:]:
        middle = (y + ny) / 2
        straight = abs(nx - x) < 0.5
        curve = f"C{_n(x)} {_n(middle)} {_n(nx)} {_n(middle)} {_n(nx)} {_n(ny)}"
        parts.append(f"L{_n(nx)} {_n(ny)}" if straight else curve)
        x, y = nx, ny
    return "".join(parts)


def _rounded(points: tuple[Point, ...], radius: float = 9) -> str:
    """Straight lines whose corners are round."""
    parts = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        reach = min(radius, _distance(before, corner) / 2, _distance(corner, after) / 2)
        (ax, ay), (bx, by) = _toward(corner, before, reach), _toward(corner, after, reach)
        parts.append(f"L{_n(ax)} {_n(ay)}Q{_n(corner[0])} {_n(corner[1])} {_n(bx)} {_n(by)}")
    return "".join([*parts, f"L{_n(points[-1][0])} {_n(points[-1][1])}"])


def _distance(a: Point, b: Point) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _toward(start: Point, end: Point, by: float) -> Point:
    far = _distance(start, end) or 1
    return start[0] + (end[0] - start[0]) * by / far, start[1] + (end[1] - start[1]) * by / far


def _arrow(before: Point, at: Point) -> str:
    dx, dy = _toward((0, 0), (at[0] - before[0], at[1] - before[1]), 1)
    (x, y), (bx, by) = at, (at[0] - 7 * dx, at[1] - 7 * dy)
    return f"M{_n(x)} {_n(y)}L{_n(bx - 4 * dy)} {_n(by + 4 * dx)}L{_n(bx + 4 * dy)} {_n(by - 4 * dx)}z"
