"""Where pretrained models come from: one file a source, one line each in the table of names."""

from acclimate.core.names import Names

SOURCES = Names(
    "source",
    {
        "packaged": "acclimate.models.sources.packaged:SOURCE",
        "packaged-texts": "acclimate.models.sources.packaged_texts:SOURCE",
        "torchvision": "acclimate.models.sources.torchvision:SOURCE",
        "timm": "acclimate.models.sources.timm:SOURCE",
        "hf": "acclimate.models.sources.hub:SOURCE",
        "run": "acclimate.models.sources.run:SOURCE",
    },
)
"""In the order in which a name without a prefix is looked up."""
