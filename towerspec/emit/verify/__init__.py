"""Compares what is about to be written with the unoptimised reference.

A surface is called with its inputs steered (`steer`) into every leaf of its branches, every class of id and number and
every length of its lists, and what no call reached is counted (`coverage`). What comes out is compared (`checks`) as
closely as the arithmetic allows (`rounding`), for the rows of a call together and for some alone. Where it differs, the
first op that does is named (`culprit`). What `-O3` rounds is measured on many rows more (`errors`), or on those of a
log (`log`).
"""

from towerspec.emit.verify.cases import SHAPES, Case, Cases, make_cases
from towerspec.emit.verify.checks import Served, compare, verify_file, verify_source, verify_surface
from towerspec.emit.verify.compile import Verified, Verifier
from towerspec.emit.verify.log import Logged
from towerspec.emit.verify.rounding import DOUBLE, EXACT, ROUNDING, SINGLE, difference
from towerspec.emit.verify.steer import Steering
from towerspec.emit.verify.unified import verify_unified

__all__ = [
    "DOUBLE",
    "EXACT",
    "ROUNDING",
    "SHAPES",
    "SINGLE",
    "Case",
    "Cases",
    "Logged",
    "Served",
    "Steering",
    "Verified",
    "Verifier",
    "compare",
    "difference",
    "make_cases",
    "verify_file",
    "verify_source",
    "verify_surface",
    "verify_unified",
]
