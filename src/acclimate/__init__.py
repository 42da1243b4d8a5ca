"""acclimate: fine-tune a pretrained model on your data; every name here is imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acclimate.core.errors import UserError
    from acclimate.core.run import Run
    from acclimate.verbs.choose import choose
    from acclimate.verbs.compare import compare
    from acclimate.verbs.evaluate import evaluate
    from acclimate.verbs.fit import fit
    from acclimate.verbs.predict import load, predict
    from acclimate.verbs.runs import runs
    from acclimate.verbs.shift import shift

__version__ = "0.1.0"
__all__ = [
    "Run",
    "UserError",
    "__version__",
    "choose",
    "compare",
    "evaluate",
    "fit",
    "load",
    "predict",
    "runs",
    "shift",
]

_PLACES = {
    "Run": "acclimate.core.run",
    "UserError": "acclimate.core.errors",
    "choose": "acclimate.verbs.choose",
    "compare": "acclimate.verbs.compare",
    "evaluate": "acclimate.verbs.evaluate",
    "fit": "acclimate.verbs.fit",
    "load": "acclimate.verbs.predict",
    "predict": "acclimate.verbs.predict",
    "runs": "acclimate.verbs.runs",
    "shift": "acclimate.verbs.shift",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'acclimate' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
