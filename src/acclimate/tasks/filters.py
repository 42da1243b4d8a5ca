"""`Filter`: a fixed way to show a sample with less in it, so that samples of two places look more alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Filter(Generic[T]):
    """`apply`: of one sample as it was given. `summary`: how samples are shown then, in words."""

    apply: Callable[[T], T]
    summary: str
    both: bool = False
    """Whether a model may see every sample so and nothing else: what tells classes is left. Else only copies of training samples are
    shown so, beside the originals."""
