"""towerspec: one `.tower` file becomes one serving graph per product surface."""

__version__ = "0.1.0"
