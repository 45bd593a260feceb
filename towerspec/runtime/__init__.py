"""Loading a build and serving from it. Nothing here imports the compiler."""

from towerspec.runtime.bundle import Bundle, Surface, load
from towerspec.runtime.files import read_inputs

__all__ = ["Bundle", "Surface", "load", "read_inputs"]
