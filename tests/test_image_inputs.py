"""Pictures become what the model reads: the same for equal keys, varied as a pure function of the seed."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from acclimate.models.pictures import Pictures
from acclimate.tasks.image_inputs import RAND_AUGMENT, ImageInputs

PREPROCESSING = Pictures(size=48)
INPUTS = ImageInputs(PREPROCESSING)


def picture(width: int = 90, height: int = 60, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def prepared() -> torch.Tensor:
    return INPUTS.prepare(encoded(picture()))


def test_squash_resizes_both_sides(prepared: torch.Tensor) -> None:
    assert prepared.dtype == torch.uint8
    assert prepared.shape == (48, 48, 3)
    assert np.array_equal(prepared.numpy(), np.asarray(picture().resize((48, 48), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_is_that_of_torchvision(interpolation: str) -> None:
    mode = v2.InterpolationMode(interpolation)
    expected = v2.CenterCrop(48)(v2.Resize(48, interpolation=mode, antialias=True)(picture(96, 60)))
    ours = ImageInputs(replace(PREPROCESSING, resize="crop", interpolation=interpolation)).prepare(
        encoded(picture(96, 60))
    )
    # torchvision resizes the whole picture to whole pixels before it crops: half a pixel apart here.
    assert np.abs(ours.numpy().astype(int) - np.asarray(expected, dtype=int)).mean() < 4


def test_a_large_jpeg_prepared_at_a_dct_scale_looks_the_same() -> None:
    large = picture(900, 600)
    full = np.asarray(large.resize((48, 48), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(INPUTS.prepare(encoded(large, "JPEG")).numpy() - full).mean() < 3


def test_a_bad_picture_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        INPUTS.prepare(b"")
    with pytest.raises(ValueError, match="text"):
        INPUTS.prepare("a text")


def test_a_sample_may_be_a_path_bytes_or_a_picture(tmp_path: Path, prepared: torch.Tensor) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    for sample in (tmp_path / "a.png", str(tmp_path / "a.png"), encoded(picture()), picture()):
        assert torch.equal(INPUTS.prepare(INPUTS.raw(sample, ())), prepared)
    with pytest.raises(ValueError, match="a float, where"):
        INPUTS.raw(1.5, ())
    with pytest.raises(OSError):
        INPUTS.raw(tmp_path / "none.png", ())


def test_the_key_names_what_changes_the_result() -> None:
    changes = [
        {"size": 64},
        {"resize": "crop"},
        {"interpolation": "bicubic"},
        {"mean": (0.5,) * 3},
        {"std": (0.5,) * 3},
    ]
    keys = {ImageInputs(replace(PREPROCESSING, **change)).key for change in changes}
    assert len(keys | {INPUTS.key}) == 6
    assert ImageInputs(replace(PREPROCESSING, fixed=True)).key == INPUTS.key == ImageInputs(Pictures(size=48)).key


def test_view_0_is_the_picture_and_the_others_differ_by_view_and_seed(prepared: torch.Tensor) -> None:
    assert torch.equal(INPUTS.view(prepared, 0, seed=1), prepared)
    views = [INPUTS.view(prepared, view, seed) for view in (1, 2) for seed in (1, 2)]
    assert all(view.shape == prepared.shape and view.dtype == torch.uint8 for view in views)
    assert len({view.numpy().tobytes() for view in [*views, prepared]}) == 5
    assert torch.equal(INPUTS.view(prepared, 2, seed=1), views[2])


def test_views_are_crops_of_half_the_area_or_more_mirrored_half_the_time() -> None:
    """On a ramp across and a ramp down, the range and direction of a crop can be read off its pixels."""
    ramp = np.arange(48) * 5
    across = torch.from_numpy(
        np.stack([np.tile(ramp, (48, 1)), np.tile(ramp[:, None], (1, 48)), np.zeros((48, 48))], -1).astype(np.uint8)
    )
    shares, mirrored, ratios = [], 0, []
    for seed in range(400):
        view = INPUTS.view(across, 1, seed).numpy().astype(float)
        width, height = view[24, -1, 0] - view[24, 0, 0], view[-1, 24, 1] - view[0, 24, 1]
        mirrored += width < 0
        shares.append(abs(width) * height / 235**2)
        ratios.append(abs(width) / height)
    assert 0.45 < min(shares) < 0.55
    assert 0.9 < max(shares) <= 1
    assert 0.7 < min(ratios) < 0.85
    assert 1.2 < max(ratios) < 1.4
    assert 160 < mirrored < 240


@pytest.mark.parametrize(("policy", "different"), [("light", 40), ("randaugment", 40), ("trivial", 25)])
def test_augmentation_is_a_pure_function_of_the_seed_in_any_thread(
    policy: str, different: int, prepared: torch.Tensor
) -> None:
    seeds = list(range(40))
    before = torch.random.get_rng_state()
    alone = [INPUTS.augment(prepared, policy, seed) for seed in seeds]
    assert torch.equal(torch.random.get_rng_state(), before)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: INPUTS.augment(prepared, policy, seed), reversed(seeds)))
    assert all(torch.equal(a, b) for a, b in zip(alone, reversed(together), strict=True))
    assert len({sample.numpy().tobytes() for sample in alone}) >= different
    assert all(sample.shape == prepared.shape and sample.dtype == torch.uint8 for sample in alone)


def test_no_augmentation_is_the_picture(prepared: torch.Tensor) -> None:
    assert torch.equal(INPUTS.augment(prepared, "none", 3), prepared)


def test_light_changes_colour_a_little() -> None:
    """On one plain colour a crop changes nothing: what is left is brightness and saturation, 10 % each."""
    plain = torch.full((48, 48, 3), 100, dtype=torch.uint8)
    values = torch.stack([INPUTS.augment(plain, "light", seed)[0, 0] for seed in range(200)]).int()
    assert 90 <= values.min() < 93
    assert 107 < values.max() <= 110


def test_trivial_leaves_the_right_way_round() -> None:
    """A bar at the left edge is found there, or has been moved or turned a little; never at the right one."""
    bar = torch.zeros((48, 48, 3), dtype=torch.uint8)
    bar[:, 2:6] = 200
    far = [INPUTS.augment(bar, "trivial", seed)[8:40, -10:].float() for seed in range(150)]
    assert all(float(one.std()) == 0 for one in far)


def test_every_operation_of_randaugment_changes_the_picture_but_identity() -> None:
    image = Image.fromarray(INPUTS.prepare(encoded(picture())).numpy() // 4 * 3 + 20)
    same = {name for name, operation in RAND_AUGMENT.items() if operation(image, 0.3).tobytes() == image.tobytes()}
    assert same == {"identity"}
    assert all(operation(image, -0.3).size == image.size for operation in RAND_AUGMENT.values())


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("rotate", lambda image: v2.functional.rotate(image, 9)),
        ("brightness", lambda image: v2.functional.adjust_brightness(image, 1.27)),
        ("colour", lambda image: v2.functional.adjust_saturation(image, 1.27)),
        ("contrast", lambda image: v2.functional.adjust_contrast(image, 1.27)),
        ("sharpness", lambda image: v2.functional.adjust_sharpness(image, 1.27)),
        ("posterize", lambda image: v2.functional.posterize(image, 7)),
        ("solarize", lambda image: v2.functional.solarize(image, 178)),
        ("autocontrast", v2.functional.autocontrast),
        ("equalize", v2.functional.equalize),
    ],
)
def test_operations_are_those_of_torchvision(name: str, peer) -> None:
    image = picture(48, 48)
    assert np.array_equal(np.asarray(RAND_AUGMENT[name](image, 0.3)), np.asarray(peer(image)))


def test_mixup_blends_by_the_share() -> None:
    first, second = torch.full((48, 48, 3), 200, dtype=torch.uint8), torch.zeros((48, 48, 3), dtype=torch.uint8)
    shares = []
    for seed in range(60):
        mixed, (share, _) = INPUTS.mix([first, second], "mixup", seed)
        assert mixed.dtype == torch.uint8
        assert mixed.unique().tolist() == [pytest.approx(200 * share, abs=0.51)]
        shares.append(share)
    assert INPUTS.mix([first, second], "mixup", 7)[1][0] == shares[7]
    assert min(shares) < 0.1 < 0.9 < max(shares)


def test_cutmix_pastes_a_box_and_counts_its_pixels() -> None:
    first, second = torch.full((48, 48, 3), 200, dtype=torch.uint8), torch.zeros((48, 48, 3), dtype=torch.uint8)
    shares = []
    for seed in range(60):
        mixed, (share, _) = INPUTS.mix([first, second], "cutmix", seed)
        pasted = (mixed == 0).all(dim=2)
        assert share == pytest.approx(1 - pasted.float().mean().item())
        rows, columns = pasted.any(dim=1).sum(), pasted.any(dim=0).sum()
        assert rows * columns == pasted.sum()
        shares.append(share)
    assert first.unique().tolist() == [200]
    assert len(set(shares)) > 40


def test_collate_normalises_in_channels_last(prepared: torch.Tensor) -> None:
    other = INPUTS.prepare(encoded(picture(seed=1)))
    batch = INPUTS.collate([prepared, other])
    assert batch.shape == (2, 3, 48, 48)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    plain = torch.stack([prepared, other]).permute(0, 3, 1, 2)
    expected = v2.Normalize(PREPROCESSING.mean, PREPROCESSING.std)(plain.float() / 255)
    torch.testing.assert_close(batch, expected, rtol=1e-5, atol=1e-5)
