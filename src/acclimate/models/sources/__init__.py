"""Where pretrained models come from: one file a source, one line each in the table of names."""

from acclimate.core.names import Names

SOURCES = Names(
    "source",
    {
        "packaged": "acclimate.models.sources.packaged:SOURCE",
        "packaged-texts": "acclimate.models.sources.packaged_texts:SOURCE",
        "torchvision": "acclimate.models.sources.torchvision:SOURCE",
        "torchvision-detection": "acclimate.models.sources.torchvision_detection:SOURCE",
        "timm": "acclimate.models.sources.timm:SOURCE",
        "yolox": "acclimate.models.sources.yolox:SOURCE",
        "fasterrcnn": "acclimate.models.sources.fasterrcnn:SOURCE",
        "retinanet": "acclimate.models.sources.retinanet:SOURCE",
        "fcos": "acclimate.models.sources.fcos:SOURCE",
        "hf": "acclimate.models.sources.hub:SOURCE",
        "run": "acclimate.models.sources.run:SOURCE",
    },
)
"""In the order in which a name without a prefix is looked up."""
