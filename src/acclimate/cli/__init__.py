"""The command line: one file a command, which parses, calls the verb and prints; heavy imports wait inside the commands."""

from acclimate.core.names import Names

COMMANDS = Names(
    "command",
    {
        "fit": "acclimate.cli.fit:fit",
        "predict": "acclimate.cli.predict:predict",
        "evaluate": "acclimate.cli.evaluate:evaluate",
        "compare": "acclimate.cli.compare:compare",
        "runs": "acclimate.cli.runs:runs",
        "choose": "acclimate.cli.choose:choose",
        "shift": "acclimate.cli.shift:shift",
        "models": "acclimate.cli.models:models",
        "cache": "acclimate.cli.cache:cache",
    },
)
