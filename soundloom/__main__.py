"""`python -m soundloom` is the command line."""

from soundloom.cli import main

main()
