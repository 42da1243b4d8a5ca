"""The verbs: each reads from top to bottom as its story; the command line and Python call the same ones."""
