"""plain: the textbook recipe, to the letter."""

from __future__ import annotations

from acclimate.strategies.strategy import Context, Plan, Strategy


def plain(context: Context) -> Plan:
    why = "the textbook: replace the last layer, then cross-entropy and SGD"
    return (
        yield context.phase(
            why,
            0,
            0.001,
            epochs=25,
            optimizer="sgd",
            momentum=0.9,
            weight_decay=0.0,
            schedule="constant",
            warmup=0.0,
            clip=None,
            augment="none",
            label_smoothing=0.0,
            average=0.0,
            norm="batch",
        )
    )


PLAIN = Strategy("plain", "the textbook recipe: all layers, SGD 0.001, momentum 0.9, 25 epochs", plain)
