"""Detectors: networks that find boxes, cut into stages like any other, with a pretrained head that keeps what it knows."""
