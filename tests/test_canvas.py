"""Pictures on a canvas: what is laid there comes back, and boxes move with their pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional as v2

from acclimate.models.detection import frames
from acclimate.models.detection.canvas import Canvas
from acclimate.tasks.canvas_inputs import OVERLAPS, CanvasInputs, Content, Move, _content, _part_with, _windows

SIZES = some.integers(8, 700)
SHARES = some.floats(0, 1, width=32)
PLACES = some.lists(some.tuples(SHARES, SHARES, SHARES, SHARES), min_size=1, max_size=5)


def encoded(image: Image.Image, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **how)
    return buffer.getvalue()


def blank(width: int, height: int, box: tuple[int, int, int, int] | None = None) -> bytes:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    if box is not None:
        pixels[box[1] : box[3], box[0] : box[2]] = 255
    return encoded(Image.fromarray(pixels))


def on_canvas(frame: torch.Tensor, boxes: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    found, there = frames.to_canvas(torch.tensor([boxes]), torch.zeros(1, len(boxes), dtype=torch.int64), frame[None])
    return found[0], there[0]


@given(SIZES, SIZES, some.sampled_from(["letterbox", "squash"]), some.integers(0, 4), some.integers(0, 2**31))
def test_boxes_go_to_the_canvas_and_come_back(width: int, height: int, fit: str, view: int, seed: int) -> None:
    inputs = CanvasInputs(Canvas(64, fit=fit))
    prepared = inputs.prepare(blank(width, height))
    box = [width * 0.25, height * 0.125, width * 0.75, height * 0.5]
    for policy in ("none", "flip", "flips"):
        moved = inputs.augment(prepared, policy, seed)
        found, _ = on_canvas(moved["frame"], [box])
        back = frames.to_picture(found[None], moved["frame"][None])[0]
        torch.testing.assert_close(back, torch.tensor([box]), atol=1e-3, rtol=1e-5)
    for other in (inputs.view(prepared, view % 4, seed, "light"), inputs.augment(prepared, "light", seed)):
        found, there = on_canvas(other["frame"], [box])
        inside = (found >= 0).all() and (found <= 64).all()
        assert not bool(there) or bool(inside)


def test_what_is_answered_lies_in_the_picture() -> None:
    frame = CanvasInputs(Canvas(64)).prepare(blank(200, 100))["frame"]
    wild = torch.tensor([[[-50.0, -9.0, 80.0, 64.0]]])
    assert frames.to_picture(wild, frame[None])[0, 0].tolist() == [0.0, 0.0, 200.0, 100.0]


@pytest.mark.parametrize(("across", "down"), [(True, False), (False, True), (True, True)])
def test_flips_are_those_of_torchvision(across: bool, down: bool) -> None:
    inputs = CanvasInputs(Canvas(64, shape=(64, 48)))
    prepared = inputs.prepare(blank(64, 48, (5, 7, 30, 20)))
    moved = inputs._moved(prepared, Move(across, down))
    pixels, boxes = (
        prepared["pixels"].permute(2, 0, 1),
        tv_tensors.BoundingBoxes([[5, 7, 30, 20]], format="XYXY", canvas_size=(48, 64)),
    )  # type: ignore[call-arg]
    for turned, flip in ((across, v2.horizontal_flip), (down, v2.vertical_flip)):
        pixels, boxes = (flip(pixels), flip(boxes)) if turned else (pixels, boxes)
    assert torch.equal(moved["pixels"], pixels.permute(1, 2, 0))
    found, there = on_canvas(moved["frame"], [[5.0, 7.0, 30.0, 20.0]])
    assert there.tolist() == [True]
    torch.testing.assert_close(found, boxes.as_subclass(torch.Tensor).float())


@pytest.mark.parametrize("scale", [0.7, 0.8, 1.25, 1.4])
@pytest.mark.parametrize("place", [(0.0, 0.0), (1.0, 1.0), (0.3, 0.6)])
def test_boxes_stay_on_what_they_are_around(scale: float, place: tuple[float, float]) -> None:
    inputs = CanvasInputs(Canvas(128, shape=(128, 96)))
    prepared = inputs.prepare(blank(256, 192, (100, 80, 156, 120)))
    moved = inputs._moved(prepared, Move(across=True, scale=scale, place=place))
    (box,), there = on_canvas(moved["frame"], [[100.0, 80.0, 156.0, 120.0]])
    ys, xs = torch.where(moved["pixels"][..., 0].float() > 180)
    seen = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
    assert there.tolist() == [True]
    assert np.abs(np.array(seen) - box.numpy()).max() <= 2


def test_a_box_that_has_left_is_not_asked_for() -> None:
    inputs = CanvasInputs(Canvas(64))
    prepared = inputs.prepare(blank(64, 64))
    moved = inputs._moved(prepared, Move(scale=1.4, place=(0.0, 0.0)))  # the top left 46 pixels are left
    boxes = [[0.0, 0.0, 20.0, 20.0], [50.0, 50.0, 64.0, 64.0], [20.0, 40.0, 40.0, 60.0], [0.0, 0.0, 0.5, 0.5]]
    found, there = on_canvas(moved["frame"], boxes)
    assert there.tolist() == [True, False, True, False]  # the third is cut, but seen
    assert found[2, 3] == 64


def target(boxes: list[list[float]], crowd: bool = False) -> np.ndarray:
    """As `Detection` encodes it."""
    return np.array([[*box, 0.0, crowd, 1.0] for box in boxes]).reshape(-1, 7)


@given(SIZES, SIZES, some.sampled_from(["letterbox", "squash"]), PLACES, some.integers(0, 2**31))
def test_a_crop_keeps_a_box_and_takes_the_others_along(
    width: int, height: int, fit: str, places: list[tuple[float, ...]], seed: int
) -> None:
    inputs = CanvasInputs(Canvas(64, fit=fit))
    prepared = inputs.prepare(blank(width, height))
    corners = np.sort(np.array(places).reshape(-1, 2, 2), axis=1) * (width, height)
    boxes = corners.reshape(-1, 4).tolist()
    moved, again = (inputs.augment(prepared, "crop", seed, target(boxes)) for _ in range(2))
    assert torch.equal(moved["pixels"], again["pixels"]) and torch.equal(moved["frame"], again["frame"])
    before, _ = on_canvas(prepared["frame"], boxes)
    found, there = on_canvas(moved["frame"], boxes)
    assert (found >= 0).all() and (found <= 64).all()
    large = (before[:, 2:] - before[:, :2] > 2.5).all(dim=1)  # enough to be seen at half the size
    assert there.any() or not large.any()
    back = frames.to_picture(found[None], moved["frame"][None])[0][there]
    whole = torch.tensor(boxes)[there]
    assert (back[:, :2] > whole[:, :2] - 1e-2).all() and (back[:, 2:] < whole[:, 2:] + 1e-2).all()
    left, top, right, bottom = frames.values(moved["frame"])[0, 4:]
    inner = (found[there] > torch.stack((left, top, left, top))) & (found[there] < torch.stack((right, bottom) * 2))
    uncut = inner.all(dim=1)
    torch.testing.assert_close(back[uncut], whole[uncut], atol=1e-2, rtol=1e-5)


def plain_part(boxes: torch.Tensor, one: Content, random: np.random.Generator) -> list[float]:
    """`_part_with` window by window, for boxes [m, 4] on a canvas that is the picture."""
    windows = _windows(one, random)
    for least in random.permutation(OVERLAPS):
        for window in windows[:-1]:
            low, high = boxes[:, :2].maximum(window[:2]), boxes[:, 2:].minimum(window[2:])
            seen = (high - low).clamp_min(0).prod(dim=1) / (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
            if least < 1 and bool(((box_iou(window[None], boxes)[0] >= least) & (seen >= 0.1)).any()):
                return window.tolist()
        if least == 1:
            break
    return windows[-1].tolist()


def test_a_crop_overlaps_a_box_as_much_as_was_drawn() -> None:
    one = _content(CanvasInputs(Canvas(128)).prepare(blank(256, 192)))
    boxes, parts = torch.tensor([[10.0, 15.0, 80.0, 75.0], [50.0, 30.0, 125.0, 95.0], [2.0, 2.0, 20.0, 10.0]]), 0
    for seed in range(100):
        found = _part_with(2 * boxes, one, np.random.default_rng(seed))
        assert found.tolist() == plain_part(boxes, one, np.random.default_rng(seed))
        if found.tolist() != [0, 0, 128, 96]:
            width, height = (found[2:] - found[:2]).tolist()
            assert max(width, height) <= 2 * min(width, height) and width >= 0.3 * 128 and height >= 0.3 * 96
            assert found.min() >= 0 and found[2] <= 128 and found[3] <= 96
            parts += 1
    assert 60 < parts < 90


@pytest.mark.parametrize("crowd", [True, False])
def test_without_a_box_to_learn_the_whole_picture_is_shown(crowd: bool) -> None:
    inputs = CanvasInputs(Canvas(64))
    prepared = inputs.prepare(blank(100, 100))
    boxes = target([[10, 10, 40, 40]] if crowd else [], crowd)
    for seed in range(20):
        moved = frames.values(inputs.augment(prepared, "crop", seed, boxes)["frame"])[0]
        assert abs(float(moved[0])) <= 0.64 + 1e-6
        assert float(moved[6] - moved[4]) == pytest.approx(100 * abs(float(moved[0])), abs=1e-3)


@pytest.mark.parametrize("fit", ["letterbox", "squash"])
def test_a_crop_keeps_a_box_on_its_square(fit: str) -> None:
    inputs = CanvasInputs(Canvas(128, shape=(128, 96), fit=fit))
    box = [100.0, 80.0, 156.0, 120.0]
    prepared = inputs.prepare(blank(256, 192, (100, 80, 156, 120)))
    larger = 0
    for seed in range(40):
        moved = inputs.augment(prepared, "crop", seed, target([box]))
        (found,), (there,) = on_canvas(moved["frame"], [box])
        grey = moved["pixels"].float().mean(dim=-1)
        ys, xs = torch.where(grey > 0.75 * grey.max())
        seen = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
        assert there and np.abs(np.array(seen) - found.numpy()).max() <= 3
        larger += bool((found[2:] - found[:2]).prod() > 1.2 * 28 * 20)
    assert 5 < larger < 20


def test_a_mosaic_keeps_every_box_on_its_square() -> None:
    inputs = CanvasInputs(Canvas(128, shape=(128, 96)))
    corners = [(30, 20, 90, 70), (100, 60, 150, 120), (20, 80, 70, 130), (150, 30, 220, 90)]
    samples = [inputs.prepare(blank(256, 192, box)) for box in corners]
    mosaics = 0
    for seed in range(40):
        mixed, shares = inputs.mix(samples, "mosaic", seed)
        assert sum(shares) == 1
        if shares[0] == 1:
            assert torch.equal(mixed["pixels"], samples[0]["pixels"])
            continue
        mosaics += 1
        boxes, source = torch.tensor([corners], dtype=torch.float32), torch.arange(4)[None]
        (found,), (there,) = frames.to_canvas(boxes, source, mixed["frame"][None])
        for (x1, y1, x2, y2), seen in zip(found.round().int().tolist(), there.tolist(), strict=True):
            if seen and min(x2 - x1, y2 - y1) > 8:
                assert mixed["pixels"][y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].float().mean() > 250
        covered = sum(bool(one) for one in there)
        white = int((mixed["pixels"][..., 0] > 200).sum())
        assert covered == 0 or white > 0
    assert 10 < mosaics < 30


def test_plain_samples_and_mosaics_share_a_batch() -> None:
    inputs = CanvasInputs(Canvas(64))
    samples = [inputs.prepare(blank(64, 64, (8, 8, 40, 40))) for _ in range(4)]
    mosaic = next(made for seed in range(40) if (made := inputs.mix(samples, "mosaic", seed))[1][0] < 1)[0]
    batch = inputs.collate([samples[0], mosaic])
    assert batch["frame"].shape == (2, 4, 8)
    boxes, source = torch.full((2, 4, 4), 8.0), torch.arange(4).expand(2, 4)
    boxes[..., 2:] = 40
    _, there = frames.to_canvas(boxes, source, batch["frame"])
    assert there[0].tolist() == [True, False, False, False]  # a source of zeros is no picture
    assert there[1].any()


def test_the_upright_picture_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.zeros((40, 80, 3), dtype=np.uint8))
    frame = CanvasInputs(Canvas(80)).prepare(encoded(image, exif=exif))["frame"]
    assert frames.values(frame)[0, 4:].tolist() == [0.0, 0.0, 40.0, 80.0]


def test_a_large_photograph_is_decoded_small_and_counted_whole() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1600, 800)).save(buffer, "JPEG")
    frame = CanvasInputs(Canvas(64)).prepare(buffer.getvalue())["frame"]
    assert frames.to_picture(torch.tensor([[[0.0, 0.0, 64.0, 32.0]]]), frame[None]).flatten().tolist() == [
        0,
        0,
        1600,
        800,
    ]


def test_pixels_are_in_the_order_and_range_of_the_model() -> None:
    image = Image.fromarray(np.full((32, 32, 3), (10, 20, 30), dtype=np.uint8))
    bgr = CanvasInputs(Canvas(32, bgr=True, mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255)))
    batch = bgr.collate([bgr.prepare(encoded(image))])
    torch.testing.assert_close(batch["pixels"][0, :, 5, 5], torch.tensor([30.0, 20.0, 10.0]))
    rgb = CanvasInputs(Canvas(32, fill=(123.675, 116.28, 103.53), shape=(64, 32)))
    batch = rgb.collate([rgb.prepare(encoded(image))])
    wanted = (torch.tensor([10.0, 20.0, 30.0]) / 255 - torch.tensor(rgb.preprocessing.mean)) / torch.tensor(
        rgb.preprocessing.std
    )
    torch.testing.assert_close(batch["pixels"][0, :, 5, 5], wanted)
    assert batch["pixels"][0, :, 5, 50].abs().max() < 0.01  # what is filled is zero, up to whole grey values


@pytest.mark.parametrize(
    ("ratio", "shape"), [(4 / 3, (416, 320)), (3 / 4, (320, 416)), (1.0, (416, 416)), (4.0, (416, 128))]
)
def test_the_canvas_fits_the_pictures(ratio: float, shape: tuple[int, int]) -> None:
    canvas = Canvas(416).shaped(ratio)
    assert (canvas.width, canvas.height) == shape
    assert Canvas.of({key: value for key, value in canvas.json().items() if key != "kind"}) == canvas


def test_unsound_pictures_are_named() -> None:
    made = CanvasInputs(Canvas(32)).prepare_all([b"", b"no picture", blank(9, 9)], 2)
    assert [isinstance(one, str) for one in made] == [True, True, False]
