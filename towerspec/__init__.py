"""towerspec: one `.tower` file becomes one serving graph per product surface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towerspec.runtime import Bundle, load

__version__ = "0.1.0"
__all__ = ["Bundle", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes a second to import, and most commands don't need it.
    if name in ("Bundle", "load"):
        from towerspec import runtime

        return getattr(runtime, name)
    raise AttributeError(f"module 'towerspec' has no attribute {name!r}")
