"""Loading a build and serving from it. Nothing here imports the compiler."""

from towerspec.runtime.bundle import Bundle, Surface, load

__all__ = ["Bundle", "Surface", "load"]
