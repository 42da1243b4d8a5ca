"""The fast arithmetic gives what the plain one gives, up to rounding; leaves nets as they were; and gives the same bits again."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from acclimate.core import device
from acclimate.core.errors import UserError
from acclimate.engine import convolution
from acclimate.engine.convolution import ACTIVATIONS, PLAIN, Geometry, How, Norm, convolve
from acclimate.engine.layers import trace
from acclimate.engine.precision import Precision, _fastest

needs_kernels = pytest.mark.skipif(
    not convolution.available(torch.bfloat16), reason="this processor or build lacks the kernels"
)
WAYS = {
    "depthwise 3x3 stride 2": {"forward": "fp32", "input": "stuffed", "weight": "plain"},
    "depthwise 5x5": {"forward": "plain", "input": "plain", "weight": "banded"},
}


class Toy(nn.Module):
    """Convolutions of every kind that has a way of its own, with norms, activations and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
        self.down = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.BatchNorm2d(8), nn.ReLU())
        self.wide = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(self.stem(x))
        y = self.norm(self.wide(x))
        y += x
        return self.head(self.relu(y).mean((2, 3)))


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    net = Toy().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low in ((module.running_mean, -0.5), (module.running_var, 0.5), (module.weight, 0.5)):
                nn.init.uniform_(value, low, low + 1)
    return net


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path))
    return tmp_path / "machine.json"


def ours(net: nn.Module, images: torch.Tensor, dtype: str) -> Precision:
    return Precision("cpu", dtype, dtype, channels_last=True, fused=trace(net, images)[1], ways=WAYS)


def gradients(net: nn.Module, images: torch.Tensor, precision: Precision) -> torch.Tensor:
    with precision.training(net):
        loss = nn.functional.cross_entropy(net(images).float(), torch.arange(len(images)) % 4)
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(net.parameters()))])


def outputs(net: nn.Module, images: torch.Tensor, precision: Precision) -> torch.Tensor:
    with torch.inference_mode(), precision.inference(net):
        return net(images).float()


def together(*commands: list[str]) -> list[str]:
    """What commands that run side by side print."""
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    printed = [process.communicate()[0] for process in running]
    assert not any(process.returncode for process in running)
    return printed


# --- convolutions


@needs_kernels
@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(["dense", "depthwise", "grouped"]),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    extra=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    activation=st.sampled_from([None, *ACTIVATIONS]),
    biased=st.booleans(),
    normed=st.booleans(),
)
def test_every_way_of_every_part_gives_the_plain_gradients(
    form, kernel, stride, pads, extra, activation, biased, normed
):
    torch.manual_seed(0)
    groups = {"dense": 1, "depthwise": 8, "grouped": 2}[form]
    x = torch.randn(2, 8, kernel[0] + extra[0], kernel[1] + extra[1], requires_grad=True)
    weight = torch.randn(8, 8 // groups, *kernel, requires_grad=True)
    bias = torch.randn(8, requires_grad=True) if biased else None
    gamma, beta = torch.rand(8, requires_grad=True), torch.randn(8, requires_grad=True)
    mean, variance = torch.randn(8), torch.rand(8) + 0.5
    norm = Norm(gamma, beta, mean, variance.rsqrt()) if normed else None
    geometry = Geometry(stride, pads, (1, 1), groups)
    learned = [x, weight, *([bias] if biased else []), *([gamma, beta] if normed else [])]

    plain = nn.functional.conv2d(x, weight, bias, *geometry)
    if normed:
        plain = nn.functional.batch_norm(plain, mean, variance, gamma, beta, eps=0.0)
    plain = {None: nn.Identity(), "relu": nn.ReLU(), "relu6": nn.ReLU6()}[activation](plain)
    toward = torch.randn_like(plain)
    expected = torch.autograd.grad(plain, learned, toward)

    parts = convolution.parts(weight.detach(), geometry, tuple(x.shape), torch.float32)
    for part, ways in parts.items():
        for way in ways:
            out = convolve(x, weight, bias, norm, How(geometry, torch.float32, {**PLAIN, part: way}, activation))
            torch.testing.assert_close(out, plain, rtol=1e-4, atol=1e-3)
            for got, wanted in zip(torch.autograd.grad(out, learned, toward), expected, strict=True):
                assert torch.dist(got, wanted) <= 1e-4 * (wanted.norm() + 1), (part, way)


@needs_kernels
@pytest.mark.parametrize("stride", [1, 2])
def test_bf16_ways_differ_by_rounding_alone(stride):
    torch.manual_seed(0)
    weight, geometry = torch.randn(32, 1, 5, 5), Geometry((stride, stride), (2, 2), (1, 1), 32)
    for part, ways in convolution.parts(weight, geometry, (4, 32, 12, 12), torch.bfloat16).items():
        assert {"input": stride == 2, "weight": True}.get(part, False) == (len(ways) == 3)
        results = {way: run() for way, run in ways.items()}
        for way, result in results.items():
            assert torch.dist(result.float(), results["fp32"].float()) < 0.01 * results["fp32"].float().norm(), (
                part,
                way,
            )


# --- nets


@needs_kernels
def test_chains_are_found_where_nothing_else_reads(toy, images):
    calls, fused = trace(toy, images)
    assert [call.kind for call in calls] == ["dense 3x3 stride 2", "depthwise 3x3 stride 2", "depthwise 5x5"]
    assert fused == (("stem.0", "stem.1", "stem.2"), ("down.0", "down.1", "down.2"), ("wide", "norm"))


class ReadTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convolution(x)
        return self.norm(x) + x


class CalledTwice(ReadTwice):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.convolution(self.convolution(x)))


class ChangedBetween(ReadTwice):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.convolution(x).mul_(2))


@needs_kernels
@pytest.mark.parametrize("kind", [ReadTwice, CalledTwice, ChangedBetween])
def test_what_cannot_be_folded_is_not(kind, images):
    net = kind().eval()
    nn.init.uniform_(net.norm.running_mean)
    assert trace(net, images)[1] == ()
    chosen = Precision.measure(net, images, asked="fp32", remember=False)
    torch.testing.assert_close(outputs(net, images, chosen), outputs(net, images, Precision()))


@needs_kernels
def test_gradients_and_outputs_are_the_plain_ones_up_to_rounding(toy, images):
    for dtype, most in (("fp32", 1e-4), ("bf16", 0.05)):
        fast = ours(toy, images, dtype)
        plain = gradients(toy, images, Precision())
        assert torch.dist(gradients(toy, images, fast), plain) < most * plain.norm()
        plain = outputs(toy, images, Precision())
        assert torch.dist(outputs(toy, images, fast), plain) < most * plain.norm()


@needs_kernels
def test_frozen_parts_get_no_gradient_and_the_rest_the_same(toy, images):
    toy.stem.requires_grad_(False)
    toy.norm.weight.requires_grad_(False)
    toy.wide.requires_grad_(False)
    found = []
    for precision in (Precision(), ours(toy, images, "fp32")):
        toy.zero_grad()
        with precision.training(toy):
            toy(images).square().sum().backward()
        found.append({name: value.grad for name, value in toy.named_parameters()})
    for name, wanted in found[0].items():
        if wanted is None:
            assert found[1][name] is None, name
        else:
            torch.testing.assert_close(found[1][name], wanted, rtol=1e-3, atol=1e-4)


@needs_kernels
def test_batch_statistics_are_taken_where_they_are_asked_for(toy, images):
    other = copy.deepcopy(toy)
    fast = ours(toy, images, "fp32")
    for net, precision in ((toy, fast), (other, Precision())):
        net.train()
        with precision.training(net):
            net(images)
    for name, value in toy.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-4, atol=1e-4)


@needs_kernels
def test_outside_nothing_is_changed_even_after_an_error(toy, images):
    with torch.inference_mode():
        before = toy(images)
    with pytest.raises(ZeroDivisionError), ours(toy, images, "bf16").training(toy):
        toy(images)
        raise ZeroDivisionError
    assert not any("forward" in module.__dict__ for module in toy.modules())
    with torch.inference_mode():
        assert torch.equal(toy(images), before)


@needs_kernels
def test_inference_within_training_is_inference(toy, images):
    fast = Precision("cpu", "fp32", "bf16", channels_last=True, fused=trace(toy, images)[1], ways=WAYS)
    alone = outputs(toy, images, fast)
    with fast.training(toy):
        trained = toy(images).detach().float()
        assert torch.equal(outputs(toy, images, fast), alone)
        assert torch.equal(toy(images).detach().float(), trained)
    assert not torch.equal(trained, alone)


# --- the choice


def test_measuring_leaves_the_net_and_the_random_numbers_alone(toy, images):
    toy.train()
    toy.down.eval()
    toy.stem.requires_grad_(False)
    modes = [module.training for module in toy.modules()]
    state, drawn = copy.deepcopy(toy.state_dict()), torch.get_rng_state()
    Precision.measure(toy, images, remember=False)
    assert [module.training for module in toy.modules()] == modes
    assert all(torch.equal(value, toy.state_dict()[name]) for name, value in state.items())
    assert all(parameter.grad is None for parameter in toy.parameters())
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_what_the_user_asks_for_is_taken(toy, images, asked):
    chosen = Precision.measure(toy, images, asked=asked)
    assert (chosen.forward, chosen.train) == (asked, asked)
    assert Precision.of(json.loads(json.dumps(chosen.json()))) == chosen


@pytest.mark.parametrize("disturbed", [0, 1, 2, 3])
def test_a_disturbed_run_does_not_decide(disturbed, monkeypatch):
    """Times of four ways in turn; a burst of other work doubles one run of the fastest."""
    true, ran = [2.0, 1.34, 1.6, 1.0], []

    def seconds(run):
        ran.append(run())
        return true[ran[-1]] * (2.5 if ran[-1] == 3 and ran.count(3) == disturbed else 1)

    monkeypatch.setattr("acclimate.engine.precision._seconds", seconds)
    place, times = _fastest([lambda way=way: way for way in range(4)])
    assert (place, times) == (3, true)
    assert ran.count(0) == 3 < ran.count(1)  # who is far behind drops out


def test_what_takes_long_and_is_far_behind_runs_once(monkeypatch):
    true, ran = [1.0, 7.0, 1.2], []

    def seconds(run):
        ran.append(run())
        return true[ran[-1]]

    monkeypatch.setattr("acclimate.engine.precision._seconds", seconds)
    assert _fastest([lambda way=way: way for way in range(3)]) == (0, true)
    assert ran.count(1) == 1 < ran.count(2)


def test_another_precision_is_refused_with_near_names(toy, images):
    with pytest.raises(UserError, match=r"--precision bf61: is not a known precision\n  did you mean 'bf16'"):
        Precision.measure(toy, images, asked="bf61")


def test_a_choice_is_remembered_by_net_size_and_trained_part(toy, images, remembered):
    def kept() -> int:
        return sum(map(len, json.loads(remembered.read_text()).values()))

    first = Precision.measure(toy, images)
    assert Precision.measure(toy, images) == first
    assert Precision.measure(toy, images[:3]) == first
    assert kept() == 1
    Precision.measure(toy, images[..., :16, :16])
    toy.stem.requires_grad_(False)
    Precision.measure(toy, images)
    assert kept() == 3


def test_what_was_remembered_counts(toy, images, remembered):
    Precision.measure(toy, images)
    known = json.loads(remembered.read_text())
    for choices in known.values():
        for choice in choices.values():
            choice["why"] = "said by another process"
    remembered.write_text(json.dumps(known))
    assert Precision.measure(toy, images).why == "said by another process"


def test_a_damaged_memory_is_no_hindrance(toy, images, remembered):
    remembered.write_text('{"half')
    chosen = Precision.measure(toy, images)
    assert Precision.measure(toy, images) == chosen
    assert json.loads(remembered.read_text())


def test_inputs_that_are_not_pictures_and_nets_without_convolutions(images):
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(10, 8), nn.Linear(8, 3)

        def forward(self, words: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.head(self.table(words["ids"]).mean(1))

    net, words = Words(), {"ids": torch.randint(0, 10, (4, 7))}
    chosen = Precision.measure(net, words)
    assert (chosen.fused, chosen.ways, chosen.channels_last) == ((), {}, False)
    with chosen.training(net):
        assert net(chosen.move(words)).shape == (4, 3)


STEPS = """
import hashlib, sys, torch
sys.path.insert(0, sys.argv[1])
from test_precision import Toy, ours
torch.set_num_threads(1)
torch.manual_seed(0)
net, images = Toy().eval(), torch.randn(6, 3, 32, 32)
precision = ours(net, images, "bf16")
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
for _ in range(5):
    with precision.training(net):
        loss = torch.nn.functional.cross_entropy(net(images).float(), torch.arange(6) % 4)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
print(hashlib.sha256(b"".join(value.numpy().tobytes() for value in net.state_dict().values())).hexdigest())
"""


@needs_kernels
def test_two_processes_compute_the_same_bits():
    command = [sys.executable, "-c", STEPS, str(Path(__file__).parent)]
    one, other = together(command, command)
    assert len(one.strip()) == 64
    assert one == other


# --- the machine


def test_the_machine_in_words():
    described = device.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert described["memory_bytes"] > 0
    assert str(torch.get_num_threads()) in device.machine_key()


def test_devices():
    assert device.choose_device("cpu") == torch.device("cpu")
    assert device.choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UserError, match="device 'gpu': is not a known device"):
        device.choose_device("gpu")
    missing = next(name for name in ("mps", "cuda") if name != device.choose_device("auto").type)
    with pytest.raises(UserError, match=f"device '{missing}': is not on this machine.*\n  usable here: .*cpu"):
        device.choose_device(missing)


def test_threads_keep_to_what_the_process_may_use():
    code = "from acclimate.core import device; print(device.cores(), device.set_threads())"
    one = {**os.environ, "OMP_NUM_THREADS": ""}
    command = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); {code}"]
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    assert subprocess.run(command, check=True, capture_output=True, text=True, env=one).stdout.split() == ["1", "1"]


@pytest.mark.skipif(not device.keep_memory(), reason="no glibc")
def test_memory_is_kept():
    code = """
import resource, sys, torch
from acclimate.core.device import keep_memory
if sys.argv[1] == "kept":
    assert keep_memory()
def fill():
    for _ in range(4):
        torch.ones(16_000_000)
for _ in range(4):  # the heap settles
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    kept, given_back = together([sys.executable, "-c", code, "kept"], [sys.executable, "-c", code, "given back"])
    assert int(kept) < 0.1 * int(given_back)
