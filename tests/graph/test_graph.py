"""Pictures of every spec: complete, legible, safe, and right about widths and levels."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from towerspec.check import Checked, check, check_text
from towerspec.graph import RENDERERS, Diagram, make_diagram, render
from towerspec.graph.cards import chips, words
from towerspec.graph.page import layout
from towerspec.graph.scene import Box, Scene
from towerspec.graph.text import width
from towerspec.ir.graph import natural_levels
from towerspec.ir.types import Level

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "specs").glob("*.tower"))
IMAGES = sorted((ROOT / "docs" / "images").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"

# Every way in which a lane can be put together, and texts that each form would choke on.
HOSTILE = r"""model hostile

table t { rows: 100, dim: 16 }
request {
  k : category { values: ["</text><script>", "]-->x", "a\\\"b", "\n#35;<br/>`{}|"] }
  rather_a_long_name_for_a_feature_that_no_card_is_wide_enough_for : number
  s : sequence { of: t, length: 12 }
  j : category { values: [x, y], on: [one, two] }
}
candidate { item : category { table: t }  x : number }
trunk {
  i   = din(item, s, hidden: [8])
  mix = concat(request, candidate, i)
  c1  = mlp(mix, hidden: [32, 16])
  c2  = cross(mix, layers: 2)
  out = concat(c1, c2, linear(c1, width: 8), x)
}
surface one {
  request { own : number { width: 12 }  other : category { rows: 5 } }
  m1 = mlp(own, hidden: [8])
  m2 = mlp(concat(own, other, out), hidden: [16, 4])
  tower {
    layers: [32, 16, 8]
    fuse m1 after 0 with gate
    fuse m2 after 1 with film
    fuse other after 2 with concat
    fuse s after 3 with attention { heads: 2, width: 8 }
    head rather_a_long_name_for_a_task_that_no_card_is_wide_enough_for : binary
    branch by k {
      "</text><script>" { head c : binary }
      "]-->x" { layers: [4]  fuse m1 after 1 with sum  head c : binary }
      else { head c : binary  head d : multiclass { values: ["<b>", "\"q\"", z] } }
    }
  }
}
surface two {
  request { own2 : number { width: 12 } }
  m = mlp(concat(own2, x, c2), hidden: [8])
  tower from m { head z : regression }
}
surface three { tower from c1 { layers: [4]  head n : count } }
surface four { tower { head n : count }  calibrate n with piecewise { bins: 4 } by k }
"""
# More lanes than fit in a row, each of another shape.
MANY = "model many request { k : category { rows: 9 } } candidate { x : number }\n" + "\n".join(
    [
        "trunk { t = mlp(concat(request, x), hidden: [8]) }",
        *(
            f"surface s{i} {{ request {{ q : number }} tower {{ layers: [{i + 4}] "
            f"fuse q after {i % 2} with {('film', 'sum')[i % 2]} head y : binary }} calibrate y with platt by k }}"
            for i in range(20)
        ),
    ]
)
TEXTS = {"hostile": HOSTILE, "many": MANY}
NAMED = {path.stem: path for path in SPECS}


def _checked(name: str) -> Checked:
    return check(NAMED[name]) if name in NAMED else check_text(TEXTS[name], f"{name}.tower")


@pytest.fixture(params=[*NAMED, *TEXTS], scope="module")
def checked(request: pytest.FixtureRequest) -> Checked:
    return _checked(request.param)


@pytest.fixture(scope="module")
def diagram(checked: Checked) -> Diagram:
    return make_diagram(*checked.sound())


@pytest.fixture(scope="module")
def scene(diagram: Diagram) -> Scene:
    return layout(diagram)


# ---- what is drawn -------------------------------------------------------------------------------


def _texts(svg: str) -> str:
    return "\n".join(text for element in ElementTree.fromstring(svg).iter() for text in [element.text or ""])


@pytest.mark.parametrize("form", RENDERERS)
def test_all_that_the_model_names_is_drawn(checked: Checked, form: str) -> None:
    model, _ = checked.sound()
    drawn = render(checked, form)
    drawn = _texts(drawn) if form == "svg" else drawn
    for surface in model.surfaces.values():
        assert re.search(rf"\b{surface.name}\b", drawn)
        for path in surface.tower.walk():
            for head in path.heads:
                assert head.name in drawn
                assert head.kind.kind in drawn
                assert head.calibrate is None or head.calibrate.kind.kind in drawn
            for fuse in path.fuses:
                assert fuse.fusion.kind in drawn
                assert f"fuse {fuse.value.key.rsplit('.', 1)[-1]}" in drawn
    for feature in model.features.values():
        assert feature.name in drawn


def test_cards_show_each_head_with_its_calibration(checked: Checked, diagram: Diagram) -> None:
    model, _ = checked.sound()
    for lane in diagram.lanes:
        surface = model.surfaces[lane.names[0]]
        heads = [n for n in lane.nodes if n.role == "head"]
        expected = sorted(
            (h.name, f"{h.calibrate.kind.kind}{f' by {model.features[h.calibrate.by].name}' if h.calibrate.by else ''}")
            if h.calibrate
            else (h.name, "")
            for path in surface.tower.walk()
            for h in path.heads
        )
        assert sorted((n.title, n.calibration) for n in heads) == expected
        fusions = [f.fusion.kind for path in surface.tower.walk() for f in path.fuses]
        assert sorted(n.title for n in lane.nodes if n.role == "fusion") == sorted(fusions)


def test_every_surface_is_in_one_lane(checked: Checked, diagram: Diagram) -> None:
    names = [name for lane in diagram.lanes for name in lane.names]
    assert sorted(names) == sorted(checked.sound()[0].surfaces)


def test_every_edge_joins_two_cards(diagram: Diagram) -> None:
    for edge in diagram.all_edges:
        assert edge.source in diagram.by_id
        assert edge.target in diagram.by_id


def test_widths_and_levels_are_those_of_the_op_graph(checked: Checked, diagram: Diagram) -> None:
    """What a card reads is, in shape and level, what some operation of its statement really reads or makes."""
    _, graph = checked.sound()
    levels = natural_levels(graph)
    card = {op.id: _card(op.scope, set(diagram.by_id)) for op in graph.ops}
    read: dict[str, set[tuple[Level, tuple[int, ...]]]] = {}
    for op in graph.ops:
        for operand in (graph.by_id[i] for i in op.inputs):
            if card[operand.id] != card[op.id]:
                read.setdefault(card[op.id], set()).add((levels[operand.id], operand.type.shape))
    compared = [e for e in diagram.all_edges if e.target in read]
    for edge in compared:
        assert (edge.flow.level, edge.flow.shape) in read[edge.target], edge
    kinds = {diagram.by_id[e.target].role for e in compared}
    assert {"head"} <= kinds
    assert len(compared) >= sum(diagram.by_id[e.target].role not in ("branch", "arm") for e in diagram.all_edges) - 1


def _card(scope: str, cards: set[str]) -> str:
    """The card that an operation belongs to: the longest id that its place in the spec begins with."""
    while scope not in cards and "." in scope:
        scope = scope.rsplit(".", 1)[0]
    return scope


def test_identical_surfaces_share_a_lane_where_there_are_many() -> None:
    lanes = make_diagram(*_checked("thirty_two").sound()).lanes
    assert sum(len(lane.names) for lane in lanes) == 32
    assert len(lanes) == 6
    assert all(len(lane.names) == 1 for lane in make_diagram(*_checked("kuairand").sound()).lanes)


def test_a_long_list_of_features_is_one_card() -> None:
    diagram = make_diagram(*_checked("kuairand").sound())
    card = next(c for c in layout(diagram).cards if c.node.id == "request")
    shown = [chip.words.text for chip in chips(card)]
    assert re.fullmatch(r"\+ \d+ more", shown[-1])
    assert {"watch_seq", "long_watch_seq"} <= set(shown), "what is read by its name is shown"
    assert int(shown[-1].split()[1]) + len(shown) - 1 == len(card.node.items)


# ---- geometry ------------------------------------------------------------------------------------


def test_no_two_cards_overlap(scene: Scene) -> None:
    for a, b in itertools.combinations(scene.cards, 2):
        assert not a.box.overlaps(b.box), (a.node.id, b.node.id)


def test_labels_cover_no_card_and_no_other_label(scene: Scene) -> None:
    boxes = [*((t.text, t.box) for t in scene.tags), *((c.node.id, c.box) for c in scene.cards)]
    for tag in scene.tags:
        covered = [name for name, box in boxes if box is not tag.box and box.overlaps(tag.box)]
        assert not covered, (tag.text, covered)


def test_all_is_inside_the_picture(scene: Scene) -> None:
    page = Box(0, 0, scene.width, scene.height)
    assert all(page.holds(box) for box in scene.boxes())
    for wire in scene.wires:
        assert all(0 <= x <= scene.width and 0 <= y <= scene.height for x, y in wire.points)


def test_each_card_is_inside_its_lane(scene: Scene) -> None:
    lanes = {band.tone: band.box for band in scene.bands if band.tone is not None}
    for card in scene.cards:
        if card.tone is not None:
            assert lanes[card.tone].holds(card.box), card.node.id


def test_texts_fit(scene: Scene) -> None:
    for card in scene.cards:
        for w in words(card):
            wide = width(w.text, w.size, w.bold)
            left = {"start": w.x, "middle": w.x - wide / 2, "end": w.x - wide}[w.anchor]
            assert wide <= w.room + 0.01, (card.node.id, w.text)
            assert card.box.holds(Box(left, w.y - w.size * 0.8, wide, w.size)), (card.node.id, w.text)
        for chip in chips(card) if card.node.role == "features" else ():
            assert card.box.holds(chip.box)
            assert width(chip.words.text, chip.words.size) <= chip.box.w
    for tag in scene.tags:
        assert width(tag.text, 10.5) <= tag.box.w


def test_no_wire_crosses_a_card(scene: Scene) -> None:
    """At the corners and ends of wires; a curve between them stays between them."""
    for wire in scene.wires:
        for x, y in wire.points:
            point = Box(x - 0.01, y - 0.01, 0.02, 0.02)
            inner = [
                c.node.id for c in scene.cards if Box(c.box.x + 1, c.box.y + 1, c.box.w - 2, c.box.h - 2).holds(point)
            ]
            assert not inner, (wire.tip, inner)


# ---- forms ---------------------------------------------------------------------------------------


def test_svg_is_well_formed_and_accessible(checked: Checked) -> None:
    root = ElementTree.fromstring(render(checked, "svg"))
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == checked.sound()[0].name  # type: ignore[union-attr]
    assert root.find(f"{SVG}desc").text  # type: ignore[union-attr]
    assert not list(root.iter(f"{SVG}script"))
    assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text  # type: ignore[union-attr, operator]


_DOT_STRING = r'"(?:[^"\\]|\\.)*"'


def test_dot_is_balanced_and_defines_what_it_joins(checked: Checked) -> None:
    text = render(checked, "dot")
    bare = re.sub(_DOT_STRING, "", text)
    assert bare.count("{") == bare.count("}")
    assert '"' not in bare
    defined = set(re.findall(rf"^    ({_DOT_STRING}) \[label=", text, re.M))
    joined = re.findall(
        rf"^  ({_DOT_STRING}) -> ({_DOT_STRING}) \[label={_DOT_STRING}(?:, style=dashed)?\]$", text, re.M
    )
    assert len(joined) == bare.count("->")
    assert {end for pair in joined for end in pair} <= defined


def test_mermaid_is_balanced_and_defines_what_it_joins(checked: Checked) -> None:
    lines = render(checked, "mermaid").splitlines()[4:]
    defined, joined = set(), []
    for line in (line.strip() for line in lines):
        if found := re.fullmatch(r'(n\d+)(\[|\(\[|\(|\{\{)"[^"]*"(\]|\]\)|\)|\}\})', line):
            defined.add(found[1])
        elif found := re.fullmatch(r'(n\d+) (?:-->|-\.->)\|"[^"]*"\| (n\d+)', line):
            joined.append(found.groups())
        else:
            assert re.fullmatch(r'subgraph \w+\["[^"]*"\]|end|style s\d+ [\w:#,-]+', line), line
    assert sum(line.strip().startswith("subgraph") for line in lines) == sum(line.strip() == "end" for line in lines)
    assert joined
    assert {end for pair in joined for end in pair} <= defined


def test_hostile_texts_are_escaped() -> None:
    checked = _checked("hostile")
    svg, dot, mermaid = (render(checked, form) for form in ("svg", "dot", "mermaid"))
    assert "<script" not in svg
    assert "</text><script>" in _texts(svg)
    assert '"</text><script>"' in dot
    assert "#60;#47;text#62;#60;script#62;" in mermaid
    assert "-->x" not in mermaid


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=2, max_size=4, unique=True))
def test_any_value_can_be_drawn(values: list[str]) -> None:
    def quoted(text: str) -> str:
        table = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
        return '"' + "".join(table.get(c, c) for c in text) + '"'

    arms = "\n".join(f"{quoted(v)} {{ head y : binary }}" for v in values)
    checked = check_text(
        f"model m request {{ k : category {{ values: [{', '.join(map(quoted, values))}] }} }}\n"
        "candidate { x : number }\ntrunk { t = linear(concat(request, x), width: 4) }\n"
        f"surface s {{ tower {{ branch by k {{\n{arms}\n}} }} }}"
    )
    if checked.report:  # some characters no spec may hold
        return
    diagram = make_diagram(*checked.sound())
    scene = layout(diagram)
    assert all(not a.box.overlaps(b.box) for a, b in itertools.combinations(scene.cards, 2))
    ElementTree.fromstring(render(checked, "svg"))
    assert '"' not in re.sub(_DOT_STRING, "", render(checked, "dot"))
    assert all(line.count('"') % 2 == 0 for line in render(checked, "mermaid").splitlines())


@pytest.mark.parametrize("form", RENDERERS)
def test_drawing_is_deterministic(form: str) -> None:
    assert render(_checked("ads_engagement"), form) == render(_checked("ads_engagement"), form)


def test_request_edges_are_dashed() -> None:
    checked = _checked("quickstart")
    diagram = make_diagram(*checked.sound())
    request = sum(e.flow.level == Level.REQUEST for e in diagram.all_edges)
    assert render(checked, "dot").count("style=dashed") == render(checked, "mermaid").count("-.->") == request


# ---- the command ---------------------------------------------------------------------------------


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "towerspec", *arguments], capture_output=True, text=True, cwd=ROOT)


def test_command_writes_a_file(tmp_path: Path) -> None:
    out = tmp_path / "ads.svg"
    done = _run("graph", "specs/quickstart.tower", "-o", str(out))
    assert (done.returncode, done.stdout) == (0, f"wrote {out}\n")
    assert out.read_text(encoding="utf-8") == render(_checked("quickstart"))
    assert _run("graph", "specs/quickstart.tower").stdout == out.read_text(encoding="utf-8")


def test_command_says_what_it_cannot_write(tmp_path: Path) -> None:
    done = _run("graph", "specs/quickstart.tower", "-o", str(tmp_path / "no" / "such.svg"))
    assert done.returncode == 1
    assert "error[T009]" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_reports_a_wrong_spec(tmp_path: Path) -> None:
    spec = tmp_path / "wrong.tower"
    spec.write_text("model m", encoding="utf-8")
    done = _run("graph", str(spec))
    assert done.returncode == 1
    assert "error[T411]" in done.stderr
    assert done.stdout == ""


def test_command_refuses_another_form() -> None:
    from towerspec.cli import cli

    assert CliRunner().invoke(cli, ["graph", "specs/quickstart.tower", "--format", "png"]).exit_code == 2


def test_drawing_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from towerspec.cli import main\n"
        "try: main(['graph', 'specs/quickstart.tower'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_committed_pictures_are_current(image: Path, refresh: bool) -> None:
    made = render(check(ROOT / "specs" / f"{image.stem}.tower"))
    if refresh:
        image.write_text(made, encoding="utf-8")
    assert image.read_text(encoding="utf-8") == made, f"towerspec graph specs/{image.stem}.tower -o {image}"
