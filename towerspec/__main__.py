"""`python -m towerspec` is the command line."""

from towerspec.cli import main

main()
