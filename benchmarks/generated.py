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
