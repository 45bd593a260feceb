"""A surface's tower: layers, fusions at their depths, branches, heads and their calibration."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from towerspec.check.arms import ELSE, ArmLabels, is_else
from towerspec.check.expressions import Expressions
from towerspec.check.features import find_category
from towerspec.check.model import ArmDef, BranchDef, CalibrateDef, FeatureDef, FuseDef, HeadDef, PathDef, TableDef
from towerspec.check.names import Namespace, check_usable, tower_step, unknown, unknown_kind
from towerspec.check.params import build
from towerspec.diagnostics import Label, Report, Span, did_you_mean, listing
from towerspec.ir.types import Level
from towerspec.layers.base import Fusion, find, kinds
from towerspec.layers.blocks import Tower
from towerspec.layers.calibrators import Calibrator
from towerspec.layers.features import Category
from towerspec.layers.heads import Head
from towerspec.syntax import tree

Heads = ChainMap[str, tree.Head]  # a path's by name, and below them those of the paths around it


def heads_of(items: Iterable[object]) -> Iterator[tree.Head]:
    """All heads of a tower's items, those in branches included."""
    for item in items:
        if isinstance(item, tree.Head):
            yield item
        elif isinstance(item, tree.Branch):
            for arm in item.arms:
                yield from heads_of(arm.items)


@dataclass
class Towers:
    """Resolves the towers of one surface."""

    surface: str
    names: Namespace
    expressions: Expressions
    features: dict[str, FeatureDef | None]
    tables: dict[str, TableDef | None]
    report: Report
    used: set[str] = field(default_factory=set)  # features read as branch keys or calibration cells

    def path(
        self,
        items: tuple[tree.TowerItem, ...],
        key: str,
        node: tree.Tower | tree.Arm,
        calibrates: dict[str, tree.Calibrate],
        outer_heads: Heads | None = None,
    ) -> PathDef | None:
        """A tower or an arm; `calibrates` holds what the blocks around it say of its heads."""
        what = "a tower" if isinstance(node, tree.Tower) else "an arm"
        options = [i for i in items if isinstance(i, tree.Option)]
        at = node.span if isinstance(node, tree.Arm) else tree_start(node)
        params = build(Tower, options, at, what, self.report)
        heads = [i for i in items if isinstance(i, tree.Head)]
        branches = [i for i in items if isinstance(i, tree.Branch)]
        calibrates = self._calibrates(items, calibrates)
        for second in branches[1:]:
            self.report.error(
                "T414",
                f"{what} has one branch at most",
                second.key.span,
                "a second branch",
                labels=[Label(branches[0].key.span, "the first branch")],
                help="branch again inside an arm of the first",
            )
        if not heads and not branches:
            self.report.error(
                "T410",
                f"{what} has neither a head nor a branch, so it predicts nothing",
                at,
                "no head",
                help="add a line such as `head click : binary`",
            )
        fuses = [self._fuse(i, params, f"the {what.split()[1]}") for i in items if isinstance(i, tree.Fuse)]
        visible = outer_heads.new_child() if outer_heads is not None else ChainMap()
        built = [self._head(h, visible, calibrates.get(h.name.text)) for h in self._once(heads, visible)]
        branch = self._branch(branches[0], key, calibrates, visible) if branches else None
        return PathDef(key, params or Tower(), tuple(f for f in fuses if f), tuple(h for h in built if h), branch, at)

    def _once(self, heads: list[tree.Head], first: Heads) -> list[tree.Head]:
        """Adds the heads to those of the path so far; the ones that it has not yet."""
        kept = []
        for head in heads:
            check_usable(head.name, self.report)
            self._apart(head.name, {})
            other = first.get(head.name.text)
            if other is None:
                first[head.name.text] = head
                kept.append(head)
            else:
                self.report.error(
                    "T210",
                    f"head `{head.name.text}` is defined twice on one path",
                    head.name.span,
                    "defined again here",
                    labels=[Label(other.name.span, "first defined here")],
                )
        return kept

    def _calibrates(self, items: Iterable[object], outer: dict[str, tree.Calibrate]) -> dict[str, tree.Calibrate]:
        items = list(items)
        calibrates = [item for item in items if isinstance(item, tree.Calibrate)]
        if not calibrates:
            return outer
        merged = dict(outer)
        known = {h.name.text for h in heads_of(items)}
        for item in calibrates:
            name = item.head.text
            if name not in known:
                unknown("T213", "head", name, item.head.span, sorted(known), self.report)
            elif name in merged:
                self.report.error(
                    "T502",
                    f"head `{name}` is calibrated twice",
                    item.head.span,
                    "calibrated again here",
                    labels=[Label(merged[name].head.span, "first calibrated here")],
                )
            else:
                merged[name] = item
        return merged

    def surface_calibrates(self, items: Iterable[tree.SurfaceItem], tower: tree.Tower) -> dict[str, tree.Calibrate]:
        """The `calibrate` statements beside the tower."""
        calibrates = [i for i in items if isinstance(i, tree.Calibrate)]
        return self._calibrates([*calibrates, *(h for h in heads_of(tower.items))], {})

    def _fuse(self, node: tree.Fuse, params: Tower | None, what: str) -> FuseDef | None:
        cls = find("fusion", node.kind.text)
        if cls is None:
            unknown_kind("T203", "fusion", "fusion", node.kind, self.report)
            fusion = None
        else:
            fusion = build(cls, node.options, node.kind.span, f"fusion `{node.kind.text}`", self.report)
        value = self.expressions.name(node.value.text, node.value.span, self.names)
        after = node.after.value if isinstance(node.after, tree.Literal) else None
        if not isinstance(after, int) or isinstance(after, bool) or after < 0:
            word = node.after if isinstance(node.after, tree.Ref) else None
            self.report.error(
                "T301",
                f"{f'`{word.name}` is no constant, and ' if word else ''}a fusion's depth is a whole number of layers",
                node.after.span,
                "not a constant" if word else "must be 0 or more",
                help=did_you_mean(word.name, [name for names in word.meant for name in names]) if word else None,
            )
            return None
        depth = len(params.layers) if params else after
        if after > depth:
            self.report.error(
                "T404",
                f"the fusion is after layer {after}, and {what} has {depth or 'none'}",
                node.after.span,
                f"past the depth of {depth}",
                help=f"write `after {depth}`, or add layers",
            )
            return None
        if fusion is None or value is None:
            return None
        assert isinstance(fusion, Fusion)
        return FuseDef(after, value, fusion, node.span)

    def _head(self, node: tree.Head, visible: Heads, calibrate: tree.Calibrate | None) -> HeadDef | None:
        cls = find("head", node.kind.text)
        if cls is None:
            unknown_kind("T205", "head kind", "head", node.kind, self.report)
            return None
        kind = build(cls, node.options, node.kind.span, f"a {node.kind.text} head", self.report)
        if kind is None:
            return None
        assert isinstance(kind, Head)
        fitted = self._calibrate(calibrate, kind) if calibrate else None
        if not self._parts(node, kind, visible):
            return None
        return HeadDef(node.name.text, kind, tuple(a.text for a in node.args), fitted, node.name.span)

    def _parts(self, node: tree.Head, kind: Head, visible: Heads) -> bool:
        if not kind.takes_heads:
            if node.args:
                self.report.error("T505", f"a {kind.kind} head takes no other heads", node.args[0].span, "not taken")
            return not node.args
        if len(node.args) < 2:
            self.report.error(
                "T505",
                "a product takes two heads or more",
                node.kind.span,
                f"{len(node.args)} given",
                help=f"write `head {node.name.text} : product(click, conversion)`",
            )
            return False
        sound = True
        for arg in node.args:
            other = visible.get(arg.text) if arg.text != node.name.text else None
            if other is None:
                others = [name for name in visible if name != node.name.text]
                unknown("T213", "head", arg.text, arg.span, others, self.report)
            elif other.kind.text != "binary":
                self.report.error(
                    "T505",
                    f"a product takes binary heads, and `{arg.text}` is a {other.kind.text}",
                    arg.span,
                    "not binary",
                    labels=[Label(other.kind.span, "declared here")],
                )
            sound = sound and other is not None and other.kind.text == "binary"
        return sound

    def _calibrate(self, node: tree.Calibrate, head: Head) -> CalibrateDef | None:
        cls = find("calibrator", node.kind.text)
        if cls is None:
            unknown_kind("T204", "calibrator", "calibrator", node.kind, self.report)
            return None
        kind = build(cls, node.options, node.kind.span, f"calibrator `{node.kind.text}`", self.report)
        by = (
            find_category(
                node.by, self.names, self.features, self.surface, "T503", "what a calibration goes by", self.report
            )
            if node.by
            else None
        )
        if by:
            self.used.add(by.key)
        if kind is None:
            return None
        assert isinstance(kind, Calibrator)
        if head.kind not in kind.fits:
            fitting = [
                name for name, c in kinds("calibrator").items() if issubclass(c, Calibrator) and head.kind in c.fits
            ]
            self.report.error(
                "T501",
                f"calibrator `{kind.kind}` doesn't fit a {head.kind} head",
                node.kind.span,
                f"not for {head.kind}",
                notes=[f"for a {head.kind} head there are {listing(fitting)}"],
            )
            return None
        return None if node.by and not by else CalibrateDef(kind, by.key if by else None, node.span)

    def _branch(
        self, node: tree.Branch, key: str, calibrates: dict[str, tree.Calibrate], visible: Heads
    ) -> BranchDef | None:
        feature = find_category(node.key, self.names, self.features, self.surface, "T408", "a branch key", self.report)
        if feature is not None and feature.level != Level.REQUEST:
            self.report.error(
                "T408",
                f"a branch key must be of request level, and `{node.key.text}` is a candidate's",
                node.key.span,
                "candidate level",
                notes=["a request runs one arm of a branch"],
                labels=[Label(feature.span, "declared here")],
            )
            feature = None
        if feature:
            self.used.add(feature.key)
        self._rows_by_number(node, feature)
        arms: list[ArmDef] = []
        labels = ArmLabels(feature, self._rows(feature), self.report)
        for arm in node.arms:
            ids = labels.add(arm)
            if ids is None:
                continue
            label = arm.label.text if isinstance(arm.label, tree.Name) else ""
            # No name in a spec starts with an underscore, so these can't meet another arm's.
            at = "_else" if is_else(arm.label) else tower_step(label) if label else f"_{(ids or (0,))[0]}"
            if isinstance(arm.label, tree.Name) and not is_else(arm.label):
                check_usable(arm.label, self.report)
                self._apart(arm.label, visible)
            path = self.path(arm.items, f"{key}.{at}", arm, calibrates, visible)
            if path is not None:
                arms.append(ArmDef(at, ids, path, arm.label.span))
        if feature and isinstance(feature.kind, Category):
            arms = self._exhaustive(node, feature, arms, labels)
        return BranchDef(feature.key, node.key.text, tuple(arms), node.key.span) if feature else None

    def _rows_by_number(self, node: tree.Branch, feature: FeatureDef | None) -> None:
        """Arms name a key's ids, so these must be known from the spec."""
        coding = feature.coding(self.tables) if feature else None
        if feature and coding and coding[0] != "direct":
            self.report.error(
                "T408",
                f"a branch key's ids must be direct, and those of `{feature.name}` are not",
                node.key.span,
                f"`ids: {coding[0]}`",
                labels=[Label(feature.span, "declared here")],
                help="give it `values: […]`, which the arms can name",
            )

    def _apart(self, name: tree.Name, heads: Mapping[str, tree.Head]) -> None:
        """Reports an arm or a head whose parameters would be named like another part's of the tower."""
        other = heads.get(name.text)
        if other is not None:
            self.report.error(
                "T210",
                f"arm `{name.text}` has the name of a head",
                name.span,
                "defined again here",
                labels=[Label(other.name.span, "the head is defined here")],
                notes=["parameters are named after the spec, and these two would share theirs"],
            )

    def _rows(self, feature: FeatureDef | None) -> int | None:
        """How many ids a branch's key has; none where it is no category or its table is wrong."""
        if feature is None or not isinstance(feature.kind, Category):
            return None
        if feature.kind.table:
            table = self.tables.get(feature.kind.table)
            return table.rows if table else None
        return feature.kind.rows or len(feature.kind.values or ())

    def _exhaustive(
        self, node: tree.Branch, feature: FeatureDef, arms: list[ArmDef], labels: ArmLabels
    ) -> list[ArmDef]:
        """Every id takes some arm: the ones not listed take `else`, and without it the unknown ones take the first."""
        rows, covered = labels.rows, {i for arm in arms for i in arm.ids}
        whole = labels.sound and len(arms) == len(labels.first)
        if ELSE not in labels.first and rows is not None and len(covered) < rows and whole:
            names = labels.values or [str(i) for i in range(min(rows, len(arms) + 4))]
            missing = [f"`{n}`" for i, n in enumerate(names) if i not in covered]
            if missing:
                self.report.error(
                    "T409",
                    f"the branch by `{feature.name}` has no arm for {listing(missing, 3)}",
                    node.key.span,
                    "some of its values have no arm",
                    help="add arms for them, or an arm `else { … }`",
                )
        if ELSE in labels.first or not arms:
            return arms
        first = arms[0]
        return [ArmDef(first.label, (), first.path, first.span), *arms[1:]]


def tree_start(node: tree.Tower) -> Span:
    """The word `tower` of a tower, for errors about the whole of it."""
    return Span(node.span.source, node.span.start, node.span.start + len("tower"))
