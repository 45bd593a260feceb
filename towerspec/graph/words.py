"""What cards say: a kind's options, a feature's kind, a calibrator, in a few words."""

from __future__ import annotations

from towerspec.check.model import ArmDef, BranchDef, FeatureDef, HeadDef, Model, Node, PathDef
from towerspec.layers.base import Kind
from towerspec.layers.features import Coded
from towerspec.layers.heads import Multiclass


def option(value: object) -> str:
    """An option's value as a person writes it.

    >>> option((512, 256)), option(200_000), option(0.5)
    ('512, 256', '200,000', '0.5')
    """
    if isinstance(value, (tuple, list)):
        return ", ".join(option(v) for v in value)
    return f"{value:,}" if isinstance(value, int) and value > 9999 else f"{value}"


def options(kind: Kind) -> list[str]:
    """The options that a spec gave a kind, as `name value`; of a truth the name alone says enough."""
    given = {f: getattr(kind, f) for f in type(kind).model_fields if f in kind.model_fields_set}
    named = [(name.replace("_", " "), value) for name, value in given.items()]
    return [(name if v else f"no {name}") if isinstance(v, bool) else f"{name} {option(v)}" for name, v in named]


def kind_name(kind: object) -> str:
    """A kind's name in the language; an alias has none."""
    return str(getattr(kind, "kind", "same value"))


def layer_words(node: Node) -> str:
    """A layer and its options."""
    if node.layer is None:
        return ""
    return " · ".join([kind_name(node.layer), *options(node.layer)])


def dense_words(path: PathDef) -> str:
    """What a dense layer of a path does besides its linear map."""
    params = path.params
    words = [params.activation.replace("_", " ")] if params.activation != "identity" else []
    words += [f"{params.norm} norm"] if params.norm != "none" else []
    return " · ".join([*words, *([f"dropout {params.dropout}"] if params.dropout else [])])


def feature_words(feature: FeatureDef, dims: str) -> str:
    """A feature's kind, its vocabulary where that is spelled out, and its shape."""
    kind = feature.kind
    named = isinstance(kind, Coded) and kind.values is not None
    values = f" of {option(kind.values)}" if isinstance(kind, Coded) and named else ""
    return f"{kind.kind}{values}, {dims}"


def head_words(head: HeadDef) -> str:
    """A head's kind: with its classes, or with the heads that it multiplies."""
    if head.parts:
        return "product " + " × ".join(head.parts)
    return f"multiclass {head.kind.width()}" if isinstance(head.kind, Multiclass) else head.kind.kind


def calibration_words(head: HeadDef, model: Model) -> str:
    """A head's calibrator and the feature that selects its cell; empty without one."""
    if head.calibrate is None:
        return ""
    by = f" by {model.features[head.calibrate.by].name}" if head.calibrate.by else ""
    return f"{head.calibrate.kind.kind}{by}"


def arm_words(branch: BranchDef, arm: ArmDef, model: Model) -> str:
    """The value of the key that selects an arm, or `else`."""
    if not arm.ids:
        return "else"
    values = getattr(model.features[branch.key].kind, "values", None) or ()
    return ", ".join(str(values[i]) if i < len(values) else str(i) for i in arm.ids)
