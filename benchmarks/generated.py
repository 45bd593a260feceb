"""Specs of as many surfaces as asked: one trunk, and for each a gate, a module, a tower and calibration of its own."""

from __future__ import annotations

SPEC = """model many
table items {{ rows: 50_000, dim: 32 }}

request {{
    user    : category {{ rows: 50_000, dim: 32 }}
    context : number {{ width: 64, missing: 0.0 }}
    recent  : sequence {{ of: items, length: 50 }}
}}

candidate {{
    item    : category {{ table: items }}
    content : number {{ width: 128, missing: 0.0 }}
    price   : number {{ transform: log1p, normalize: standard }}
}}

trunk {{
    history = transformer(recent, layers: 1, heads: 4, hidden: 64)
    crossed = cross(concat(request, candidate, history), layers: 2, rank: 64)
    shared  = mmoe(crossed, experts: 4, hidden: [256, 128])
}}

template surface page() {{
    request {{
        query : bag {{ rows: 1000, dim: 16, length: 8 }}
    }}
    intent = mlp(query, hidden: [32])
    tower {{
        layers: [128, 64]
        fuse intent after 1 with gate
        head click : binary
        head save  : binary
    }}
    calibrate click with platt
}}

{surfaces}
"""


def spec_text(surfaces: int) -> str:
    """A spec with that many surfaces, `s0` and on."""
    return SPEC.format(surfaces="\n".join(f"surface s{i} = page()" for i in range(surfaces)))


WIDE = """model wide
request {{
{request}
}}
candidate {{
{candidate}
}}
trunk {{
    shared = mlp(cross(concat(request, candidate), layers: 1, rank: 8), hidden: [32])
}}
surface home {{
    tower {{
        layers: [16]
        head click : binary
    }}
}}
"""
READINGS = (
    "category {{ rows: 100, dim: 4 }}",
    "number {{ normalize: standard }}",
    "number {{ transform: log1p, missing: 0.0 }}",
    "bag {{ rows: 50, dim: 4, length: 5 }}",
)


def wide_text(features: int) -> str:
    """A spec of one surface with that many features, half of them the request's, of four kinds in turn."""
    lines = [f"    f{i} : {READINGS[i // 2 % 4].format()}" for i in range(features)]
    return WIDE.format(request="\n".join(lines[::2]), candidate="\n".join(lines[1::2]))
