"""Mistakes that no text of a spec can show: each is made through the command line or a call and gives its exact text.

`pytest --refresh` rewrites the texts, which stand beside those of `tests/diagnostics`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch._inductor import config as inductor

import towerspec
from tests.test_explanations import codes_of
from towerspec.check import check, check_text
from towerspec.cli import main
from towerspec.diagnostics import SpecError, render
from towerspec.emit import torchscript
from towerspec.emit.build import Options, compile_spec
from towerspec.ir.builder import Scope, Value
from towerspec.ir.primitives import Linear
from towerspec.layers import base
from towerspec.layers.base import Layer, kinds
from towerspec.runtime import read_inputs
from towerspec.syntax.files import LARGEST, MOST_FILES
from towerspec.train.data import open_log

FOLDER = Path(__file__).parent / "diagnostics"
SPEC = """model small

candidate {
    item  : category { rows: 10, dim: 4 }
    price : number
}

trunk {
    shared = mlp(candidate, hidden: [4])
}

surface home {
    tower {
        head click : binary
    }
}

surface search {
    tower {
        head click : binary
    }
}
"""
Make = Callable[[pytest.MonkeyPatch], None]
CASES: dict[str, Make] = {}


def case(make: Make) -> Make:
    CASES[make.__name__] = make
    return make


def weights(change: Mapping[str, Tensor | None]) -> None:
    """`weights.safetensors` that fits the spec but for a change; then the compile."""
    shapes = {p.path: p.shape for _, p in check("small.tower").sound()[1].params}
    made: dict[str, Tensor | None] = {path: torch.zeros(shape) for path, shape in shapes.items()}
    save_file({k: x for k, x in {**made, **change}.items() if x is not None}, "weights.safetensors")
    main(["compile", "small.tower", "-o", "build", "--weights", "weights.safetensors"])


def serve(change: Mapping[str, Any], strict: bool = False) -> None:
    """A call of a surface, with one input changed or, where it is None, left out."""
    compile_spec(check("small.tower"), Path("build"))
    inputs = {"item": [1, 2], "price": [0.5, 1.0], **change}
    towerspec.load("build").surfaces["home"]({k: x for k, x in inputs.items() if x is not None}, strict=strict)


def log(rows: str, *words: str) -> None:
    Path("log.csv").write_text(rows)
    main(["data", "check", "small.tower", "log.csv", *words])


def train(words: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert not end.value.code


# ---- files -------------------------------------------------------------------------------------


@case
def T001_missing(_: pytest.MonkeyPatch) -> None:
    main(["check", "nowhere.tower"])


@case
def T001_folder(_: pytest.MonkeyPatch) -> None:
    main(["check", "."])


@case
def T003_large(_: pytest.MonkeyPatch) -> None:
    Path("large.tower").write_text("#" * (LARGEST + 1))
    main(["check", "large.tower"])


@case
def T006_text(_: pytest.MonkeyPatch) -> None:
    check_text(SPEC + 'include "parts.tower"').report.check()


@case
def T007_files(_: pytest.MonkeyPatch) -> None:
    Path("many.tower").write_text("model many\n" + "".join(f'include "p{i}.tower"\n' for i in range(MOST_FILES + 1)))
    for i in range(MOST_FILES + 1):
        Path(f"p{i}.tower").write_text("")
    main(["check", "many.tower"])


@case
def T009_exists(_: pytest.MonkeyPatch) -> None:
    main(["init", "small.tower"])


@case
def T009_init(_: pytest.MonkeyPatch) -> None:
    main(["init", "small.tower/model.tower"])


@case
def T009_folder(_: pytest.MonkeyPatch) -> None:
    main(["graph", "small.tower", "-o", "."])


@case
def T216_growth(_: pytest.MonkeyPatch) -> None:
    first = "template t0(x) {\n    y = linear(x, width: 4)\n}\n"
    more = "".join(f"template t{i}(x) {{\n    a = t{i - 1}(x)\n    b = t{i - 1}(a)\n}}\n" for i in range(1, 40))
    Path("laughs.tower").write_text(SPEC.replace("mlp(candidate, hidden: [4])", "t39(candidate)") + first + more)
    main(["check", "laughs.tower"])


# ---- layers ------------------------------------------------------------------------------------


@case
def T308_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind as a package would add it, in a registry of this case's own."""
    monkeypatch.setattr(base, "_REGISTRY", {**base._REGISTRY, "layer": dict(kinds("layer"))})

    class Halves(Layer):
        kind = "halves"

        def lower(self, b: Scope, x: Value) -> Value:
            return x[: x.width // (x.width - 5)]

    Path("small.tower").write_text(SPEC.replace("mlp(candidate, hidden: [4])", "halves(candidate)"))
    main(["check", "small.tower"])


@case
def T407_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def lower(self: object, b: Any, x: Any) -> Any:
        seen.append(b.param("bias", (x.width,), own=True))
        return x + b.use(seen[0]) + seen[-1]

    monkeypatch.setattr(kinds("layer")["mlp"], "lower", lower)
    main(["check", "small.tower"])


# ---- weights and compile -----------------------------------------------------------------------


@case
def T601_missing(_: pytest.MonkeyPatch) -> None:
    weights({"trunk.shared.0.bias": None})


@case
def T601_renamed(_: pytest.MonkeyPatch) -> None:
    weights({"features.item.weight": None, "features.items.weight": torch.zeros(12, 4)})


@case
def T602_extra(_: pytest.MonkeyPatch) -> None:
    weights({"trunk.shared.9.bias": torch.zeros(4)})


@case
def T603_shape(_: pytest.MonkeyPatch) -> None:
    weights({"trunk.shared.0.bias": torch.zeros(5)})


@case
def T603_type(_: pytest.MonkeyPatch) -> None:
    weights({"trunk.shared.0.bias": torch.zeros(4, dtype=torch.float64)})


@case
def T605_nan(_: pytest.MonkeyPatch) -> None:
    weights({"trunk.shared.0.bias": torch.tensor([0.0, float("nan"), 0.0, 0.0])})


@case
def T604_broken(_: pytest.MonkeyPatch) -> None:
    Path("weights.safetensors").write_bytes(b"nothing")
    main(["compile", "small.tower", "-o", "build", "--weights", "weights.safetensors"])


@case
def T604_missing(_: pytest.MonkeyPatch) -> None:
    main(["compile", "small.tower", "-o", "build", "--weights", "nowhere.safetensors"])


@case
def T604_cut_off(_: pytest.MonkeyPatch) -> None:
    save_file({"trunk.shared.0.bias": torch.zeros(4)}, "whole.safetensors")
    Path("weights.safetensors").write_bytes(Path("whole.safetensors").read_bytes()[:20])
    main(["compile", "small.tower", "-o", "build", "--weights", "weights.safetensors"])


@case
def T604_pickle(_: pytest.MonkeyPatch) -> None:
    torch.save({"trunk.shared.0.bias": torch.zeros(4)}, "weights.pt")
    main(["compile", "small.tower", "-o", "build", "--weights", "weights.pt"])


@case
def T606_wrong_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a bug of the compiler's gives this one: here a primitive prints what it doesn't mean."""
    monkeypatch.setattr(Linear, "code", lambda self, args, types, out: f"0.0 * F.linear({', '.join(args)})")
    main(["compile", "small.tower", "-o", "build"])


@case
def T607_surface(_: pytest.MonkeyPatch) -> None:
    main(["compile", "small.tower", "-o", "build", "--surface", "serch"])


@case
def T607_ops(_: pytest.MonkeyPatch) -> None:
    main(["compile", "small.tower", "--emit", "ops", "--surface", "serch"])


@case
def T607_passes(_: pytest.MonkeyPatch) -> None:
    main(["compile", "small.tower", "--explain-passes", "--surface", "serch"])


@case
def T608_notes(_: pytest.MonkeyPatch) -> None:
    Path("notes").mkdir()
    Path("notes/todo.txt").write_text("keep me")
    main(["compile", "small.tower", "-o", "notes"])


@case
def T608_room(patch: pytest.MonkeyPatch) -> None:
    """A large file goes through the temporary folder, and there is no room there."""
    Path("temporary").mkdir()
    patch.setattr(tempfile, "tempdir", "temporary")
    patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 2**30 - 64, 64))
    patch.setattr(torchscript, "LARGE", 0)
    main(["compile", "small.tower", "-o", "build"])


@case
def T609_pass(_: pytest.MonkeyPatch) -> None:
    main(["compile", "small.tower", "-o", "build", "--no-pass", "hosit"])


@case
def T609_ops(_: pytest.MonkeyPatch) -> None:
    main(["compile", "small.tower", "--emit", "ops", "--no-pass", "inline"])


@case
def T610_vocabulary(_: pytest.MonkeyPatch) -> None:
    Path("small.tower").write_text(SPEC.replace("rows: 10,", "rows: 10, ids: fitted,"))
    weights({})


@case
def T610_many(_: pytest.MonkeyPatch) -> None:
    Path("small.tower").write_text(SPEC.replace("rows: 10,", "rows: 10, ids: fitted,"))
    Path("vocabularies.json").write_text('{"features.item": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}')
    weights({})


@case
def T610_other(_: pytest.MonkeyPatch) -> None:
    Path("small.tower").write_text(SPEC.replace("rows: 10,", "rows: 10, ids: fitted,"))
    Path("vocabularies.json").write_text('{"features.author": [1, 2]}')
    weights({})


@case
def T611_compiler(_: pytest.MonkeyPatch) -> None:
    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}):
        main(["compile", "small.tower", "-o", "build", "--target", "aoti"])


@case
def T612_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own words differ from version to version."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Could not guard on data-dependent expression Eq(u0, 1)\n\nand much more")

    monkeypatch.setattr(torch.export, "export", refuse)
    main(["compile", "small.tower", "-o", "build", "--target", "aoti"])


@case
def T613_too_far(_: pytest.MonkeyPatch) -> None:
    Path("small.tower").write_text(SPEC.replace("rows: 10,", "rows: 20000,"))
    compile_spec(check("small.tower"), Path("build"), Options(level=3, cpu="any", max_error=2e-6))


@case
def T620_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_REGISTRY", {**base._REGISTRY, "layer": dict(kinds("layer"))})

    class Centred(Layer):
        kind = "centred"
        example = "y = centred(x)"

        def lower(self, b: Scope, x: Value) -> Value:
            return b.module("tests.verify.modules:Centred", x, width=x.width, params={})

    Path("small.tower").write_text(SPEC.replace("mlp(candidate, hidden: [4])", "centred(candidate)"))
    main(["compile", "small.tower", "-o", "build"])


@case
def T621_surface(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text("surface,item,price\nhome,3,0.5\nhome,4,1.5\n")
    Path("small.tower").write_text(SPEC.replace("rows: 10,", "rows: 20000,"))
    main(["compile", "small.tower", "-o", "build", "-O3", "--cpu", "any", "--samples", "log.csv"])


# ---- serving -----------------------------------------------------------------------------------


@case
def T701_no_build(_: pytest.MonkeyPatch) -> None:
    towerspec.load("nowhere")


@case
def T701_changed(_: pytest.MonkeyPatch) -> None:
    compile_spec(check("small.tower"), Path("build"))
    Path("build/surfaces/home.pt").write_bytes(b"another")
    towerspec.load("build").surfaces["home"](item=[1], price=[1.0])


@case
def T701_version(_: pytest.MonkeyPatch) -> None:
    Path("build").mkdir()
    Path("build/manifest.json").write_text('{"format": 99}')
    towerspec.load("build")


def spoilt(change: Callable[[dict[str, Any]], object]) -> None:
    """A build whose manifest was changed, loaded as far as its surface."""
    document = compile_spec(check("small.tower"), Path("build"))
    change(document)
    Path("build/manifest.json").write_text(json.dumps(document))
    towerspec.load("build").surfaces["home"]


@case
def T701_key(_: pytest.MonkeyPatch) -> None:
    spoilt(lambda document: document["surfaces"]["home"].pop("sha256"))


@case
def T701_type(_: pytest.MonkeyPatch) -> None:
    spoilt(lambda document: document.update(surfaces=[]))


@case
def T701_outputs(_: pytest.MonkeyPatch) -> None:
    spoilt(lambda document: document["surfaces"]["home"]["outputs"].append({"name": "buy"}))


@case
def T701_outside(_: pytest.MonkeyPatch) -> None:
    spoilt(lambda document: document["surfaces"]["home"].update(file="../build/surfaces/home.pt"))


@case
def T701_link(_: pytest.MonkeyPatch) -> None:
    compile_spec(check("small.tower"), Path("build"))
    Path("build/surfaces").rename("elsewhere")
    Path("build/surfaces").symlink_to(Path("elsewhere").resolve())
    towerspec.load("build").surfaces["home"]


class Raises(torch.nn.Module):
    """A graph of a surface's inputs and outputs that fails."""

    def forward(self, item: Tensor, price: Tensor) -> tuple[Tensor]:
        return (price.reshape(-1, 7),)


@case
def T708_failed(_: pytest.MonkeyPatch) -> None:
    document = compile_spec(check("small.tower"), Path("build"))
    entry = document["surfaces"]["home"]
    with torchscript.quiet():
        torch.jit.script(Raises()).save(Path("build") / entry["file"])
    entry["sha256"] = hashlib.sha256((Path("build") / entry["file"]).read_bytes()).hexdigest()
    Path("build/manifest.json").write_text(json.dumps(document))
    towerspec.load("build").surfaces["home"]({"item": [1, 2], "price": [0.5, 1.0]})


@case
def T701_target(_: pytest.MonkeyPatch) -> None:
    compile_spec(check("small.tower"), Path("build"))
    main(["bench", "build"])


def packaged(cpu: str) -> None:
    """A build whose manifest says that it has packages for a kind of CPU."""
    document = compile_spec(check("small.tower"), Path("build"))
    for entry in document["surfaces"].values():
        entry["targets"]["aoti"] = {"file": entry["file"], "sha256": entry["sha256"], "cpu": cpu}
    Path("build/manifest.json").write_text(json.dumps(document))


@case
def T607_bench(_: pytest.MonkeyPatch) -> None:
    packaged("DEFAULT")
    main(["bench", "build", "--surface", "serch"])


@case
def T701_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    packaged("AVX512")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    towerspec.load("build", target="aoti").surfaces["home"]


@case
def T701_device(_: pytest.MonkeyPatch) -> None:
    packaged("DEFAULT")
    towerspec.load("build", target="aoti", device="cuda").surfaces["home"]


@case
def T701_package(_: pytest.MonkeyPatch) -> None:
    packaged("DEFAULT")
    towerspec.load("build", target="aoti").surfaces["home"]


@case
def T702_missing(_: pytest.MonkeyPatch) -> None:
    serve({"item": None})


@case
def T703_unknown(_: pytest.MonkeyPatch) -> None:
    serve({"prise": [1.0, 2.0]})


@case
def T701_entries(_: pytest.MonkeyPatch) -> None:
    compile_spec(check("small.tower"), Path("build"))
    document = json.loads(Path("build/manifest.json").read_text())
    document["surfaces"]["home"]["inputs"][0]["range"] = [0]
    Path("build/manifest.json").write_text(json.dumps(document))
    towerspec.load("build").surfaces["home"]


@case
def T704_type(_: pytest.MonkeyPatch) -> None:
    serve({"item": torch.ones(2, dtype=torch.bool)})


@case
def T704_tensor(_: pytest.MonkeyPatch) -> None:
    serve({"item": torch.ones(2, device="meta")})


@case
def T704_fraction(_: pytest.MonkeyPatch) -> None:
    serve({"item": [1, 1.5]})


@case
def T704_json(_: pytest.MonkeyPatch) -> None:
    Path("inputs.json").write_text('{"item": [1, 2], "price": [.5, 1]}')
    read_inputs("inputs.json")


@case
def T704_safetensors(_: pytest.MonkeyPatch) -> None:
    Path("inputs.safetensors").write_bytes(b"price")
    read_inputs("inputs.safetensors")


@case
def T704_text(_: pytest.MonkeyPatch) -> None:
    serve({"price": ["dear", "cheap"]})


@case
def T705_shape(_: pytest.MonkeyPatch) -> None:
    serve({"price": [[1.0], [2.0]]})


@case
def T705_list(_: pytest.MonkeyPatch) -> None:
    serve({"item": [[1, 2], [3]]})


@case
def T706_rows(_: pytest.MonkeyPatch) -> None:
    serve({"price": [1.0]})


def several(requests: int, candidates: int, counts: list[int] | None) -> None:
    """A call with rows of both levels."""
    Path("small.tower").write_text(SPEC.replace("candidate {", "request {\n    age : number\n}\n\ncandidate {", 1))
    spec = Path("small.tower").read_text().replace("mlp(candidate,", "mlp(concat(request, candidate),")
    Path("small.tower").write_text(spec)
    inputs = {"age": [30.0] * requests, "item": [1] * candidates, "price": [1.0] * candidates}
    serve({**inputs, "candidates_per_request": counts})


@case
def T706_no_counts(_: pytest.MonkeyPatch) -> None:
    several(2, 3, None)


@case
def T706_counts(_: pytest.MonkeyPatch) -> None:
    several(2, 3, [1, 1])


@case
def T706_count(_: pytest.MonkeyPatch) -> None:
    several(2, 3, [-1, 4])


@case
def T706_no_request(_: pytest.MonkeyPatch) -> None:
    several(0, 3, None)


@case
def T707_range(_: pytest.MonkeyPatch) -> None:
    serve({"item": [1, 10]}, strict=True)


@case
def T707_nan(_: pytest.MonkeyPatch) -> None:
    serve({"price": [1.0, float("nan")]}, strict=True)


# ---- logs and runs -----------------------------------------------------------------------------

GOOD = "surface,item,price,click\nhome,1,0.5,1\nsearch,2,1.5,0\nhome,3,2.5,0\nsearch,4,0.5,1\n"


@case
def T801_no_run(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(GOOD)
    main(["train", "small.tower", "--data", "log.csv", "-o", "run", "--init-from", "nowhere"])


def damaged(file: str, text: str, *words: str) -> None:
    """A run, one of whose files says something else; then a command that reads it."""
    a_run()
    Path("log.csv").write_text(GOOD)
    Path("run", file).parent.mkdir(exist_ok=True)
    Path("run", file).write_text(text)
    main([*words])


@case
def T801_record(_: pytest.MonkeyPatch) -> None:
    damaged("run.json", '{"format": 1}', "evaluate", "run", "--data", "log.csv")


@case
def T801_vocabularies(_: pytest.MonkeyPatch) -> None:
    damaged("vocabularies.json", '{"tables.items": [1, null]}', "evaluate", "run", "--data", "log.csv")


@case
def T801_plan(_: pytest.MonkeyPatch) -> None:
    words = ["train", "small.tower", "--data", "log.csv", "-o", "run", "--resume"]
    damaged("checkpoints/plan.json", "{", *words)


@case
def T801_checkpoint(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(GOOD)
    train(["train", "small.tower", "--data", "log.csv", "-o", "run", "--set", "epochs=1"])
    Path("run/run.json").unlink()
    Path("run/checkpoints/last.ckpt").write_bytes(b"half of it")
    main(["train", "small.tower", "--data", "log.csv", "-o", "run", "--set", "epochs=1", "--resume"])


@case
def T301_set(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(GOOD)
    main(["train", "small.tower", "--data", "log.csv", "-o", "run", "--set", "epochs"])


@case
def T009_log(_: pytest.MonkeyPatch) -> None:
    Path("log").mkdir()
    Path("log/train.parquet").write_text("a log of real rows")
    main(["simulate", "small.tower", "-o", "log"])


@case
def T810_no_log(_: pytest.MonkeyPatch) -> None:
    main(["data", "check", "small.tower", "nowhere"])


@case
def T811_column(_: pytest.MonkeyPatch) -> None:
    log(GOOD.replace("price", "prise"))


@case
def T811_surface(_: pytest.MonkeyPatch) -> None:
    tower = "    tower {\n        head click : binary\n"
    Path("small.tower").write_text(
        SPEC.replace(f"search {{\n{tower}", f"search {{\n{tower}        head buy : binary\n")
    )
    log(GOOD)


@case
def T811_twice(_: pytest.MonkeyPatch) -> None:
    log("".join(f"{line},{line.split(',')[2]}\n" for line in GOOD.splitlines()))


@case
def T812_type(_: pytest.MonkeyPatch) -> None:
    log("surface,item,price,click\nhome,1,dear,1\nsearch,2,cheap,0\n")


@case
def T811_request(_: pytest.MonkeyPatch) -> None:
    log(GOOD, "--request-column", "session")


@case
def T811_capitals(_: pytest.MonkeyPatch) -> None:
    log(GOOD.replace("price", "PRICE"))


@case
def T810_ragged(_: pytest.MonkeyPatch) -> None:
    log(GOOD.replace("1.5,0", "1.5,0,3"))


@case
def T810_separator(_: pytest.MonkeyPatch) -> None:
    log(GOOD.replace(",", ";"))


@case
def T813_after_whole_numbers(_: pytest.MonkeyPatch) -> None:
    Path("small.tower").write_text(SPEC.replace("rows: 10,", "rows: 10, ids: hash,"))
    row = GOOD.split("\n")[1]
    rows = "\n".join([row] * (2**20 // len(row)))
    log(f"{GOOD.splitlines()[0]}\n{rows}\n{row.replace(row.split(',')[1], 'A12', 1)}\n")


@case
def T813_value(_: pytest.MonkeyPatch) -> None:
    log(GOOD.replace("home,3", "home,3.5"))


@case
def T814_surface(_: pytest.MonkeyPatch) -> None:
    log(GOOD.replace("search,4", "serch,4"))


@case
def T814_map(_: pytest.MonkeyPatch) -> None:
    log(GOOD, "--map-surface", "home=hom")


@case
def T815_label(_: pytest.MonkeyPatch) -> None:
    log(GOOD.replace("1.5,0", "1.5,2"))


@case
def T815_size(_: pytest.MonkeyPatch) -> None:
    Path("small.tower").write_text(SPEC.replace("head click : binary", "head click : regression"))
    log(GOOD.replace(",1\n", ",1e39\n"))


def T815_value(_: pytest.MonkeyPatch) -> None:
    spec = SPEC.replace("head click : binary", "head click : multiclass { values: [1, 2, 3] }")
    Path("small.tower").write_text(spec)
    log(GOOD)


@case
def T816_time(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(GOOD)
    main(["train", "small.tower", "--data", "log.csv", "-o", "run", "--valid-from", "3"])


@case
def T816_bound(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text("day," + GOOD.replace("\nh", "\n1,h").replace("\ns", "\n2,s"))
    words = ["--time-column", "day", "--valid-from", "soon"]
    main(["train", "small.tower", "--data", "log.csv", "-o", "run", *words])


@case
def T817_vocabulary(_: pytest.MonkeyPatch) -> None:
    Path("small.tower").write_text(SPEC.replace("rows: 10,", "rows: 10, ids: fitted,"))
    Path("log.csv").write_text(GOOD)
    list(open_log(check("small.tower"), [Path("log.csv")]).batches(4))


@case
def T818_warning(_: pytest.MonkeyPatch) -> None:
    log(GOOD.replace(",1\n", ",0\n"))


@case
def T818_null(_: pytest.MonkeyPatch) -> None:
    Path("small.tower").write_text(SPEC.replace("rows: 10,", "rows: 10, ids: hash,"))
    log(GOOD.replace("home,3", "home,\\N"))


@case
def T818_no_time(_: pytest.MonkeyPatch) -> None:
    days = (f"{day},{row}" for day, row in zip(["day", "", *"23456789"], GOOD.splitlines(), strict=False))
    log("\n".join(days) + "\n", "--time-column", "day")


@case
def T810_escape(_: pytest.MonkeyPatch) -> None:
    log(GOOD.replace("home,3", 'home,"3 \\"inches\\""'))


@case
def T819_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    main(["data", "check", "small.tower", "log.csv"])


@case
def T821_exists(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(GOOD)
    Path("run").mkdir()
    Path("run/notes.txt").write_text("keep me")
    main(["train", "small.tower", "--data", "log.csv", "-o", "run"])


@case
def T821_folder(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(GOOD)
    main(["train", "small.tower", "--data", "log.csv", "-o", "log.csv/run"])


@case
def T821_nothing_to_go_on_with(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(GOOD)
    Path("run").mkdir()
    Path("run/notes.txt").write_text("keep me")
    main(["train", "small.tower", "--data", "log.csv", "-o", "run", "--resume"])


@case
def T821_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What safetensors says of a full disk is no OSError."""

    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    Path("log.csv").write_text(GOOD)
    main(["train", "small.tower", "--data", "log.csv", "-o", "run", "--set", "epochs=1"])


@case
def T822_other_options(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(GOOD)
    train(["train", "small.tower", "--data", "log.csv", "-o", "run", "--set", "epochs=1"])
    main(["train", "small.tower", "--data", "log.csv", "-o", "run", "--set", "epochs=2", "--resume"])


@case
def T823_no_rows(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(GOOD.split("\n")[0] + "\n")
    main(["train", "small.tower", "--data", "log.csv", "-o", "run"])


@case
def T823_no_validation(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(GOOD)
    Path("valid.csv").write_text(GOOD.split("\n")[0] + "\n")
    main(["train", "small.tower", "--data", "log.csv", "--valid", "valid.csv", "-o", "run"])


@case
def T823_no_label(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(re.sub(r"[01]\n", "\n", GOOD))
    main(["train", "small.tower", "--data", "log.csv", "-o", "run"])


@case
def T823_no_auc(_: pytest.MonkeyPatch) -> None:
    Path("log.csv").write_text(GOOD)
    Path("valid.csv").write_text(GOOD.replace(",1\n", ",0\n"))
    words = ["--valid", "valid.csv", "--set", "monitor=auc", "--set", "epochs=1"]
    main(["train", "small.tower", "--data", "log.csv", "-o", "run", *words])


@case
def T824_not_a_number(_: pytest.MonkeyPatch) -> None:
    """A logit that is no number any more must not count as one that a row doesn't have."""
    Path("log.csv").write_text(GOOD.split("\n")[0] + "\n" + "\n".join(GOOD.strip().split("\n")[1:] * 9) + "\n")
    Path("small.tower").write_text(SPEC.replace("mlp(candidate, hidden: [4])", "cross(candidate, layers: 4)"))
    words = ["learning_rate=1e6", "optimizer=sgd", "clip=0", "batch=2"]
    main(["train", "small.tower", "--data", "log.csv", "-o", "run", *(w for x in words for w in ("--set", x))])


@case
def T824_diverged(_: pytest.MonkeyPatch) -> None:
    Path("small.tower").write_text(SPEC.replace("head click : binary", "head click : regression"))
    Path("log.csv").write_text(GOOD.replace("1.5,", "1e30,"))
    main(["train", "small.tower", "--data", "log.csv", "-o", "run"])


CALIBRATED = SPEC.replace("head click : binary", "head click : binary\n        calibrate click with platt", 1)


def a_run(spec: str = CALIBRATED) -> None:
    """`run`, as if trained on `log.csv`: a spec, weights of zero, and a record."""
    Path("run/spec").mkdir(parents=True)
    Path("run/spec/small.tower").write_text(spec)
    shapes = {p.path: p.shape for _, p in check("run/spec/small.tower").sound()[1].params}
    save_file({path: torch.zeros(shape) for path, shape in shapes.items()}, "run/weights.safetensors")
    Path("run/run.json").write_text('{"format": 1, "spec": "small.tower", "data": {"data": ["log.csv"]}}')
    Path("log.csv").write_text(GOOD)
    Path("held_out.csv").write_text(GOOD)


@case
def T831_no_labels(_: pytest.MonkeyPatch) -> None:
    a_run()
    Path("held_out.csv").write_text(GOOD.replace(",0\n", ",\n").replace(",1\n", ",\n"))
    main(["calibrate", "run", "--data", "held_out.csv"])


@case
def T832_no_calibrator(_: pytest.MonkeyPatch) -> None:
    a_run(SPEC)
    main(["calibrate", "run", "--data", "held_out.csv"])


@case
def T833_trained(_: pytest.MonkeyPatch) -> None:
    a_run()
    main(["calibrate", "run", "--data", "log.csv"])


@case
def T834_one_class(_: pytest.MonkeyPatch) -> None:
    a_run()
    Path("held_out.csv").write_text(GOOD.replace("home,3,2.5,0", "home,3,2.5,1"))
    main(["calibrate", "run", "--data", "held_out.csv"])


@case
def T840_mixed(_: pytest.MonkeyPatch) -> None:
    Path("small.tower").write_text(SPEC.replace("rows: 10,", "rows: 10, ids: hash,"))
    Path("log.csv").write_text(GOOD)
    Path("more.csv").write_text(GOOD.replace("home,3", "home,003"))
    main(["data", "check", "small.tower", "log.csv", "more.csv"])


# ---- the tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_call_gives_its_text(
    name: str, refresh: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.tower").write_text(SPEC)
    text = outcome(CASES[name], monkeypatch, capsys)
    expected = FOLDER / f"{name}.txt"
    if refresh:
        expected.write_text(text, encoding="utf-8")
    assert text == expected.read_text(encoding="utf-8")
    assert set(re.findall(r"\bT\d{3}\b", text)) == ({"T601", "T602"} if name == "T601_renamed" else {name[:4]})


def outcome(make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a user reads of it, from the first mistake on."""
    try:
        make(monkeypatch)
    except SpecError as error:
        return "\n\n".join(render(d) for d in error.diagnostics) + "\n"
    except SystemExit:
        pass
    shown = capsys.readouterr()
    text = shown.out + shown.err
    found = re.search(r"^(\S+:\d+:\d+: )?(error|warning)\[?.*", text, re.MULTILINE | re.DOTALL)
    assert found, text
    return found[0].rstrip() + "\n"


def test_every_code_has_an_example_of_its_text() -> None:
    shown = {p.name.split("_")[0] for p in FOLDER.glob("T*.txt")}
    assert shown == codes_of("towerspec")
