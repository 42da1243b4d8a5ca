"""probe: everything frozen, the head fitted to features that are computed once."""

from __future__ import annotations

from acclimate.engine.phase import HEAD, Phase
from acclimate.strategies.strategy import Context, Plan, Strategy


def solved(context: Context, keep: int = 0) -> Phase:
    """The phase that fits the head in closed form; the pass leaves the activations at boundary `keep` in the cache as well."""
    why = "the frozen network's features, computed once; the penalty is chosen on validation"
    balance, seed = context.options.balance or "none", context.options.seed
    return Phase("probe", why, (HEAD,), (), epochs=0, solve=True, first=keep, balance=balance, seed=seed)


def probe(context: Context) -> Plan:
    return (yield solved(context))


PROBE = Strategy("probe", "fit only a new head, on cached features", probe, reads=frozenset({"balance"}))
