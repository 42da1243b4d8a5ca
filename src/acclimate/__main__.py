"""python -m acclimate: the command line."""

from acclimate.cli.main import main

main()
