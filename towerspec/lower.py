"""From the model graph to the op graph: every feature, layer, fusion, head and calibrator written in primitives.

The trunk is lowered for each surface. What comes out as no surface's own is the same for all and lowered once; in
the rest, a part that doesn't depend on the surface comes out as the same ops, and one that does (a gate, an own
expert) becomes that surface's own. Request-level inputs are expanded to the candidates at once: computing them once
a request is the optimiser's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from towerspec.check.model import (
    GROUPS,
    BranchDef,
    CalibrateDef,
    FeatureDef,
    FuseDef,
    HeadDef,
    Model,
    Node,
    Operand,
    PathDef,
    SurfaceDef,
)
from towerspec.diagnostics import Label, Report, Span
from towerspec.ir.builder import (
    MOST_NUMBERS,
    MOST_OPS,
    Builder,
    InterferenceError,
    NamesakeError,
    Scope,
    Sequence,
    TooLarge,
    Value,
)
from towerspec.ir.graph import Graph, Output
from towerspec.ir.primitives import Hash, Ids, Input, Merge, Present
from towerspec.ir.types import ShapeError
from towerspec.layers.base import Tensor, signature
from towerspec.layers.basic import dense
from towerspec.layers.calibrators import Cells, Identity
from towerspec.layers.features import Coded, default_for, table_param
from towerspec.layers.heads import Product

_CODES = {InterferenceError: "T407", NamesakeError: "T210"}  # of what a layer's lowering raises, other than T305


@dataclass
class Lowering:
    """The state of one lowering, shared by all surfaces: the ops and outputs so far."""

    model: Model
    report: Report
    builder: Builder = field(default_factory=Builder)
    outputs: list[Output] = field(default_factory=list)
    shared: dict[str, Tensor] = field(default_factory=dict)  # by key, what belongs to no surface: lowered once
    heads: dict[str, tuple[HeadDef, tuple[int, int]]] = field(default_factory=dict)  # shared ones: the first, its size

    def scope(self, key: str, surface: str, span: Span | None, owner: str | None = None) -> Scope:
        return Scope(self.builder, key, surface, span, owner)


def lower(model: Model, report: Report) -> Graph | None:
    """The op graph of all surfaces; none where the report gained an error."""
    before = len(report.diagnostics)
    lowering = Lowering(model, report)
    try:
        _surfaces(lowering)
    except TooLarge as error:
        _too_large(error, report)
    if len(report.diagnostics) > before:
        return None
    outputs = tuple(lowering.outputs)
    return Graph(model.name, tuple(model.surfaces), tuple(lowering.builder.ops.values()), outputs).restrict(outputs)


def _surfaces(lowering: Lowering) -> None:
    model = lowering.model
    features: dict[str | None, list[FeatureDef]] = {}
    for feature in model.features.values():
        features.setdefault(feature.surface, []).append(feature)
    for surface in model.surfaces.values():
        # The inputs' order is the text's, not that of their use; the shared ones come with the first surface.
        _Surface(lowering, surface).run([*features.pop(None, ()), *features.pop(surface.name, ())])


def _too_large(error: TooLarge, report: Report) -> None:
    name = error.scope.path.split(".", 2 if error.scope.path.startswith("surfaces.") else 1)[-1]
    if error.numbers is None:
        report.error(
            "T216",
            f"the model grows past {MOST_OPS:,} operations and operands at `{name}`",
            error.scope.span,
            "grows past the bound here",
            help="write fewer or smaller layers, or split the model",
        )
    elif not any(d.code == "T306" for d in report):  # a table's size is reported where it is declared
        report.error(
            "T306",
            f"`{name}` is too large",
            error.scope.span,
            f"{error.numbers:,} numbers",
            notes=[f"a parameter, or what a value holds a row, is at most {MOST_NUMBERS:,} numbers"],
            help="make it, or what it reads, narrower",
        )


class _Surface:
    """Lowers the trunk as one surface sees it, then that surface's own part."""

    def __init__(self, lowering: Lowering, surface: SurfaceDef) -> None:
        self.lowering, self.surface = lowering, surface
        self.model, self.report = lowering.model, lowering.report
        self.values: dict[str, Tensor | None] = dict(lowering.shared)
        self.logits: dict[str, Value] = {}

    def run(self, features: Iterable[FeatureDef]) -> None:
        for feature in features:
            self._input(feature)
        for node in self.model.trunk:
            if node.key not in self.values:
                self.node(node, None)
        for node in self.surface.nodes:
            self.node(node, self.surface.name)
        scope = self.lowering.scope(
            self.surface.tower.key, self.surface.name, self.surface.tower.span, self.surface.name
        )
        start = self.operand(self.surface.start, scope)
        if isinstance(start, Sequence):
            self.report.error(
                "T304",
                "a tower starts from a vector, and this is a sequence",
                self.surface.start.span,
                "a sequence",
                help="pool it first, with `pooling` or an encoder",
            )
            return
        if start is None:
            return
        found = self.path(self.surface.tower, scope, start) or {}
        for head in self.surface.heads:
            if head not in found:  # it, or what it is a product of, is reported already
                continue
            kind, logit, prediction = found[head]
            self.lowering.outputs.append(Output(self.surface.name, head, kind, logit.id, prediction.id))

    # ---- values ------------------------------------------------------------------------------

    def operand(self, operand: Operand, scope: Scope) -> Tensor | None:
        """An operand's value in the given scope, lowered now if it is a feature or a group."""
        key = operand.key
        if key not in self.values:
            if key in GROUPS:
                self._set(key, self._group(key))
            elif key in self.model.features:
                self._set(key, self._feature(self.model.features[key]))
            else:
                self._set(key, None)
        return _use(scope, self.values[key])

    def _set(self, key: str, value: Tensor | None) -> None:
        self.values[key] = value
        if value is None:
            return
        parts = (value.value, value.mask) if isinstance(value, Sequence) else (value,)
        if not any(self.lowering.builder.ops[part.id].owner for part in parts):
            self.lowering.shared[key] = value

    def _group(self, name: str) -> Value | None:
        if not self.model.complete:  # a member is missing that is reported already
            return None
        members = [self.operand(Operand(f.key, f.span), self._root(name)) for f in self.model.group(name)]
        vectors = [m for m in members if isinstance(m, Value)]
        if len(vectors) < len(members):
            return None
        return self._root(name).concat(vectors) if vectors else None

    def _root(self, key: str) -> Scope:
        return self.lowering.scope(key, self.surface.name, None)

    def _feature(self, feature: FeatureDef) -> Tensor | None:
        kind = feature.kind
        scope = self.lowering.scope(feature.key, self.surface.name, feature.span, feature.surface)
        if isinstance(kind, Coded) and kind.table is not None and kind.table not in self.model.tables:
            return None  # an unknown table, reported where it is named
        shared = feature.surface is None and kind.on is not None
        x, table = self._ids(feature, scope), self._table(feature, scope)
        if shared and kind.kind == "sequence":  # its ids are what is absent: all padding
            x = scope.op(Present(kind.on or ()), x, default_for(scope, x.type, "padding"))
            return kind.encode(scope, x, table)
        encoded = kind.encode(scope, x, table)
        if shared and isinstance(encoded, Value):
            return scope.op(Present(kind.on or ()), encoded, default_for(scope, encoded.type, kind.absent))
        return encoded

    def _input(self, feature: FeatureDef) -> Value:
        kind = feature.kind
        scope = self.lowering.scope(feature.key, self.surface.name, feature.span, feature.surface)
        raw = scope.op(Input(feature.name, feature.level, kind.shape(), kind.dtype), hint="input")
        return raw.expand()

    def _ids(self, feature: FeatureDef, scope: Scope) -> Value:
        """The input, with ids that are to be hashed as row numbers."""
        x, coding = scope.use(self._input(feature)), feature.coding(self.model.tables)
        return scope.op(Hash(coding[2]), x) if coding and coding[0] == "hash" else x

    def _table(self, feature: FeatureDef, scope: Scope) -> Value | None:
        if not isinstance(feature.kind, Coded):
            return None
        if feature.kind.table is not None:
            table = self.model.tables[feature.kind.table]
            shared = self.lowering.scope(f"tables.{table.name}", self.surface.name, table.span)
            return scope.use(table_param(shared, table.rows, table.dim))
        rows, dim = feature.kind.own_table() or (1, 1)
        return table_param(scope, rows, dim)

    def node(self, node: Node, owner: str | None) -> None:
        """Lowers one statement; a mistake is reported at the input or option it is about."""
        scope = self.lowering.scope(node.key, self.surface.name, node.span, owner)
        inputs = [self.operand(i, scope) for i in node.inputs]
        self.values[node.key] = None
        if node.layer is None:
            return
        empty = [i for i in node.inputs if i.key in GROUPS and self.model.complete and not self.model.group(i.key)]
        for operand in empty:
            self.report.error(
                "T303", f"`{operand.key}` is empty: the spec declares no such features", operand.span, "no features"
            )
        if any(i is None for i in inputs) or not _kinds_fit(node, inputs, self.report):
            return
        try:
            self._set(node.key, node.layer.lower(scope, *inputs))
        except ShapeError as error:
            self._failed(node, error)
        except Exception as error:
            if isinstance(error, TooLarge) or type(node.layer).__module__.startswith("towerspec."):
                raise
            self._foreign(node, error)

    def _foreign(self, node: Node, error: Exception) -> None:
        """A layer of another package raised what a layer shouldn't: say so at its call, without a traceback."""
        assert node.layer is not None
        cls = type(node.layer)
        self.report.error(
            "T308",
            f"layer `{cls.kind}` failed: {type(error).__name__}: {error}",
            node.span,
            "this call",
            notes=[f"the layer is `{cls.__module__}.{cls.__qualname__}`, which is not part of towerspec"],
            help="a layer reports inputs that it can't take by raising `LayerError`",
        )

    def _failed(self, node: Node, error: ShapeError) -> None:
        at, code = getattr(error, "at", None), _CODES.get(type(error), "T305")
        span, label = node.span, ""
        if isinstance(at, int) and at < len(node.inputs):
            span, label = node.inputs[at].span, "this input"
        elif isinstance(at, str):
            span, label = node.options.get(at, node.span), "this option" if at in node.options else ""
        name = type(node.layer).kind if node.layer and "kind" in type(node.layer).__dict__ else node.key
        self.report.error(code, _of(f"layer `{name}`", error), span, label, help=getattr(error, "help", None))

    # ---- towers ------------------------------------------------------------------------------

    def path(self, path: PathDef, scope: Scope, h: Value) -> dict[str, tuple[str, Value, Value]] | None:
        """A tower or an arm: its heads, and those of its arms, as kind, logit and prediction by name."""
        params = path.params
        scope = replace(scope, path=path.key, span=path.span)
        for depth in range(len(params.layers) + 1):
            if depth:
                layer = replace(scope, path=f"{path.key}.layers.{depth - 1}")
                h = dense(
                    layer, layer.use(h), params.layers[depth - 1], "", params.activation, params.norm, params.dropout
                )
            for fuse, key in path.fuse_keys():
                if fuse.after == depth:
                    fused = self._fuse(fuse, replace(scope, path=key, span=fuse.span), h)
                    if fused is None:
                        return None
                    h = fused
        found = {}
        for head in sorted(
            path.heads, key=lambda head: isinstance(head.kind, Product)
        ):  # a product comes after its parts
            made = self._head(head, replace(scope, path=path.head_key(head), span=head.span), h)
            if made is not None:
                found[head.name] = (head.kind.kind, *made)
        if path.branch:
            arms = self._branch(path.branch, scope, h)
            if arms is None:
                return None
            found.update(arms)
        return found

    def _fuse(self, fuse: FuseDef, inner: Scope, h: Value) -> Value | None:
        x = self.operand(fuse.value, inner)
        if x is None:
            return None
        takes = signature(type(fuse.fusion))[-1][1]
        if isinstance(x, Sequence) and takes == "Value":
            self.report.error(
                "T304",
                f"fusion `{fuse.fusion.kind}` takes a vector, and `{fuse.value.span.text}` is a sequence",
                fuse.value.span,
                "a sequence",
                help="pool it first, or fuse it with `attention`",
            )
            return None
        try:
            return fuse.fusion.lower(inner, inner.use(h), x)  # type: ignore[arg-type]  # as its signature says
        except ShapeError as error:
            self.report.error(
                "T305", _of(f"fusion `{fuse.fusion.kind}`", error), fuse.span, help=getattr(error, "help", None)
            )
            return None

    def _head(self, head: HeadDef, scope: Scope, h: Value) -> tuple[Value, Value] | None:
        if isinstance(head.kind, Product):
            parts = [
                self.logits.get(f"{name}/{'/'.join(scope.region[:depth])}")
                for name in head.parts
                for depth in (self._depth(name, scope),)
            ]
            if any(p is None for p in parts):
                return None
            logit = head.kind.combine(scope, [p for p in parts if p is not None])
        elif self._shares(head, h):
            logit = head.kind.lower(scope, scope.use(h))
        else:
            return None
        self.logits[f"{head.name}/{'/'.join(scope.region)}"] = logit
        prediction = self._calibrated(head, scope, logit)
        shape = () if head.kind.width() == 1 else (head.kind.width(),)
        return logit.reshape(*shape), prediction.reshape(*shape)

    def _shares(self, head: HeadDef, h: Value) -> bool:
        """Whether a head can have the weights of those that it shares them with; reports it where it can't."""
        if not getattr(head.kind, "shared", False):
            return True
        first, size = self.lowering.heads.setdefault(head.name, (head, (head.kind.width(), h.width)))
        if size == (head.kind.width(), h.width):
            return True
        what = f"{h.width} numbers" if size[1] != h.width else f"{head.kind.width()} classes"
        theirs = size[1] if size[1] != h.width else size[0]
        self.report.error(
            "T305",
            f"head `{head.name}` shares weights that are for {theirs}, and has {what}",
            head.span,
            f"of {what}",
            labels=[Label(first.span, f"of {theirs}")],
            help="let the towers end in layers of one width, or leave `shared` out",
        )
        return False

    def _depth(self, name: str, scope: Scope) -> int:
        """How deep in the branches around a scope the head of this name was made."""
        for depth in range(len(scope.region), -1, -1):
            if f"{name}/{'/'.join(scope.region[:depth])}" in self.logits:
                return depth
        return 0

    def _calibrated(self, head: HeadDef, scope: Scope, logit: Value) -> Value:
        calibrate = head.calibrate
        if calibrate is None:
            return Identity().lower(scope, logit, head.kind, Cells(scope))
        inner = replace(scope, path=f"{scope.path}.calibrate", span=calibrate.span)
        return calibrate.kind.lower(inner, inner.use(logit), head.kind, self._cells(calibrate, inner))

    def _cells(self, calibrate: CalibrateDef, scope: Scope) -> Cells:
        if calibrate.by is None:
            return Cells(scope)
        feature = self.model.features[calibrate.by]
        count = (feature.coding(self.model.tables) or ("", "", 0))[2]
        # Missing and unknown values share the last cell.
        key = scope.op(Ids(count, count, count), self._ids(feature, scope))
        return Cells(scope, key, count)

    def _branch(self, branch: BranchDef, scope: Scope, h: Value) -> dict[str, tuple[str, Value, Value]] | None:
        feature = self.model.features[branch.key]
        outer = replace(scope, path=f"{scope.path}.{branch.name}", span=branch.span)
        key = outer.use(self._input(feature))
        name = f"{scope.path}.{branch.name}"
        arms: dict[str, dict[str, tuple[str, Value, Value]]] = {}
        for arm in branch.arms:
            inside = replace(scope, region=(*scope.region, f"{name}={arm.label}"))
            found = self.path(arm.path, inside, h)
            if found is None:
                return None
            arms[arm.label] = found
        table = tuple((arm.label, arm.ids) for arm in branch.arms)
        merged = {}
        for head in dict.fromkeys(h for found in arms.values() for h in found):
            having = [label for label, found in arms.items() if head in found]
            prim = Merge(name, table, tuple(having))
            kind = arms[having[0]][head][0]
            logit, prediction = (
                outer.op(prim, key, *(outer.use(arms[label][head][i]) for label in having), hint=hint)  # type: ignore[arg-type]
                for i, hint in ((1, f"{head}_logit"), (2, head))
            )
            merged[head] = (kind, logit, prediction)
        return merged


def _of(what: str, error: ShapeError) -> str:
    """An error's message, with what it is about unless it says so itself."""
    return str(error) if "`" in str(error) else f"{what}: {error}"


def _use(scope: Scope, value: Tensor | None) -> Tensor | None:
    if isinstance(value, Sequence):
        return Sequence(scope.use(value.value), scope.use(value.mask))
    return None if value is None else scope.use(value)


def _kinds_fit(node: Node, inputs: list[Tensor | None], report: Report) -> bool:
    """Whether vectors stand where the layer takes vectors, and sequences where it takes sequences."""
    takes = signature(type(node.layer)) if node.layer else []
    fits = True
    for index, (operand, value) in enumerate(zip(node.inputs, inputs, strict=True)):
        name, wanted, _ = takes[min(index, len(takes) - 1)]
        found = "Sequence" if isinstance(value, Sequence) else "Value"
        if wanted in ("Value", "Sequence") and wanted != found:
            words = {"Sequence": "a sequence", "Value": "a vector"}
            kind = getattr(node.layer, "kind", "")
            report.error(
                "T304",
                f"layer `{kind}` takes {words[wanted]} as `{name}`, and this is {words[found]}",
                operand.span,
                words[found],
                help="pool it first, with `pooling` or an encoder such as `transformer`"
                if found == "Sequence"
                else None,
            )
            fits = False
    return fits
