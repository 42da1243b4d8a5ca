"""Trackers: where the curves, settings and mistakes of a fit are kept beside its own folder, each one file."""

from acclimate.core.names import Names

TRACKERS = Names(
    "tracker",
    {
        "tensorboard": "acclimate.tracking.tensorboard:TensorBoard",
        "mlflow": "acclimate.tracking.mlflow:MLflow",
        "wandb": "acclimate.tracking.wandb:WandB",
    },
)
