"""Tables and features: from their declarations to checked definitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from towerspec.check.model import GROUPS, FeatureDef, TableDef
from towerspec.check.names import Namespace, check_usable, unknown, unknown_kind
from towerspec.check.params import build
from towerspec.diagnostics import Label, Report
from towerspec.layers.base import find
from towerspec.layers.blocks import Table
from towerspec.layers.features import EXTRA_ROWS, Category, Coded, Feature
from towerspec.syntax import tree

LARGEST_TABLE = 2**31  # numbers, which is 8 GiB in fp32


@dataclass
class Features:
    """Collects the tables and features of a spec."""

    report: Report
    surfaces: frozenset[str]
    tables: dict[str, TableDef | None]
    features: dict[str, FeatureDef | None]

    def table(self, node: tree.Table) -> None:
        """Adds a shared table."""
        check_usable(node.name, self.report)
        params = build(Table, node.options, node.name.span, "a table", self.report)
        self.tables[node.name.text] = None
        if params is not None:
            self._size(params.rows, params.dim, node.name.text, node)
            self.tables[node.name.text] = TableDef(node.name.text, params.rows, params.dim, node.name.span, params.ids)

    def block(self, node: tree.FeatureBlock, names: Namespace, surface: str | None) -> None:
        """Adds the features of a `request` or `candidate` block, of all surfaces or of one."""
        prefix = f"surfaces.{surface}" if surface else "features"
        for feature in node.features:
            key = f"{prefix}.{feature.name.text}"
            if names.define(feature.name, key, self.report):
                kind = self._kind(feature, surface)
                level, span = GROUPS[node.level], feature.name.span
                self.features[key] = FeatureDef(key, feature.name.text, kind, level, surface, span) if kind else None

    def _kind(self, node: tree.Feature, surface: str | None) -> Feature | None:
        cls = find("feature", node.kind.text)
        if cls is None:
            unknown_kind("T206", "feature kind", "feature", node.kind, self.report)
            return None
        kind = build(cls, node.options, node.kind.span, f"a {node.kind.text}", self.report)
        if kind is None:
            return None
        assert isinstance(kind, Feature)
        self._surfaces(node, kind, surface)
        if isinstance(kind, Coded):
            self._ids(node, kind)
        return kind

    def _surfaces(self, node: tree.Feature, kind: Feature, surface: str | None) -> None:
        option = next((o for o in node.options if o.name.text == "on"), None)
        if option is None:
            return
        if surface is not None:
            self.report.error(
                "T307",
                f"a feature of surface `{surface}` takes no `on`",
                option.span,
                f"it is only `{surface}`'s already",
                help="remove the option",
            )
        for item in option.value.items if isinstance(option.value, tree.ListExpr) else ():
            name = getattr(item, "name", None)
            if isinstance(name, str) and name not in self.surfaces:
                unknown("T209", "surface", name, item.span, list(self.surfaces), self.report)
        if kind.on == ():
            self.report.error("T301", "`on` needs at least one surface", option.value.span, "names no surface")

    def _ids(self, node: tree.Feature, kind: Coded) -> None:
        options = {o.name.text: o for o in node.options}
        if kind.table is not None:
            if kind.table not in self.tables:
                at = (options.get("of") or options["table"]).value
                unknown("T208", "table", kind.table, at.span, list(self.tables), self.report)
                return
            table = self.tables[kind.table]
            rows = table.rows if table else None
        else:
            rows, dim = kind.own_table() or (1, 1)
            self._size(rows, dim, node.name.text, node)
        for name in ("missing", "unknown"):
            value = getattr(kind, name, None)
            if rows is not None and isinstance(value, int) and not 0 <= value < rows:
                self.report.error(
                    "T301",
                    f"`{name}` of a {kind.kind} must be an id from 0 to {rows - 1}",
                    options[name].value.span,
                    "not one of its ids",
                )

    def _size(self, rows: int, dim: int, name: str, node: tree.Table | tree.Feature) -> None:
        if (rows + EXTRA_ROWS) * dim > LARGEST_TABLE:
            size = (rows + EXTRA_ROWS) * dim * 4 / 2**30
            at = next((o.value.span for o in node.options if o.name.text == "rows"), node.name.span)
            self.report.error(
                "T306",
                f"the table of `{name}` is too large",
                at,
                f"{size:,.0f} GiB of weights",
                notes=[f"a table holds at most {LARGEST_TABLE:,} numbers, 8 GiB"],
                help="hash the ids into fewer rows, or make `dim` smaller",
            )


def find_category(
    name: tree.Name,
    names: Namespace,
    features: dict[str, FeatureDef | None],
    surface: str,
    code: str,
    use: str,
    report: Report,
) -> FeatureDef | None:
    """The category feature of this name that the surface has; what else it is, is an error with this code."""
    entry = names.find(name.text)
    if entry is None or entry.key not in features:
        shown = [n for n in names.names() if (e := names.find(n)) and e.key in features]
        categories = [n for n in shown if (f := features[names.find(n).key]) and isinstance(f.kind, Category)]  # type: ignore[union-attr]
        unknown(code, "category", name.text, name.span, categories, report, plural="categories")
        return None
    feature = features[entry.key]
    if feature is None:
        return None
    if not isinstance(feature.kind, Category):
        report.error(
            code,
            f"{use} must be a category, and `{name.text}` is a {feature.kind.kind}",
            name.span,
            f"a {feature.kind.kind}",
            labels=[Label(entry.span, "declared here")],
        )
        return None
    if not feature.has(surface):
        report.error(
            code,
            f"surface `{surface}` doesn't have the feature `{name.text}`",
            name.span,
            "not on this surface",
            labels=[Label(entry.span, f"it is on {', '.join(feature.kind.on or ())}")],
        )
        return None
    return feature


def duplicate_tables(nodes: Iterable[tree.Table], report: Report) -> None:
    """Reports a table name that is declared twice."""
    first: dict[str, tree.Table] = {}
    for node in nodes:
        other = first.setdefault(node.name.text, node)
        if other is not node:
            report.error(
                "T210",
                f"table `{node.name.text}` is defined twice",
                node.name.span,
                "defined again here",
                labels=[Label(other.name.span, "first defined here")],
            )
