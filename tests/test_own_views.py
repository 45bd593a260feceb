"""Layers that read what each surface has its own view of, and that only an arm reads: what is constant stays whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_absent_features import FUSIONS, STATEMENTS
from towerspec.check import check_text
from towerspec.emit.build import Options, compile_spec

WORDS = {"v": "mine", "w": "mine, other", "s": "h"}
SPEC = """model own
request {{ h : sequence {{ rows: 9, dim: 4, length: 3 }}  k : category {{ rows: 3, dim: 4 }} }}
candidate {{ x : number {{ width: 4 }} }}
trunk {{
  mine = ple(x, hidden: [4], shared_experts: 1, own_experts: 1)
  other = linear(x, width: 4)
  {trunk}
}}
surface s {{
  {own}
  tower {{
    layers: [4]
    branch by k {{
      "0" {{ layers: [4]  {fused}  head click : binary }}
      else {{ layers: [3]  fuse t_value after 0 with sum  head click : binary }}
    }}
  }}
}}
surface t {{ tower {{ layers: [4]  fuse t_value after 1 with gate  head click : binary }} }}
"""


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("kind", STATEMENTS)
def test_a_layer_over_a_surfaces_own_view(kind: str, level: int, tmp_path: Path) -> None:
    """The compile compares the surfaces' graphs and the routing of the unified model with the reference."""
    text = STATEMENTS[kind].format(**WORDS)
    flat = f"t_value = linear(concat({text}, mine), width: 4)"
    own = f"s_value = linear(concat({text}, mine), width: 4)"
    fused = " ".join(f"fuse s_value after 1 with {fusion}" for fusion in FUSIONS if fusion != "attention")
    spec = SPEC.format(trunk=flat, own=own, fused=f"{fused} fuse h after 1 with attention")
    compile_spec(check_text(spec), tmp_path / "build", Options(level=level))
