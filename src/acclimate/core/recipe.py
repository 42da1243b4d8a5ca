"""`Options`: everything a user can ask of a fit, declared once; the command line, the recipe file and the checks read it from here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from acclimate.core.errors import Problem, Problems, UserError, near

Adapter = Literal["merged", "apart"]
Augment = Literal["none", "flip", "flips", "light", "crop", "randaugment", "trivial", "mixup", "cutmix", "mosaic"]
Balance = Literal["none", "weights", "sampling"]
Device = Literal["auto", "cpu", "cuda", "mps"]
PrecisionName = Literal["auto", "fp32", "bf16"]
Optimizer = Literal["adamw", "sgd", "adam"]
Long = Literal["truncate", "head+tail", "window"]
Schedule = Literal["cosine", "linear", "constant"]
Quoting = Literal["auto", "none", "double"]
Leaks = Literal["keep", "drop"]


class Options(BaseModel):
    """What the user asked. None means: the strategy decides. What is asked is never overridden."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str | None = Field(
        None,
        description="the pretrained network to start from ('acclimate models' lists them; choose: what 'acclimate choose' "
        "recommends; default: the best that is at hand)",
    )
    weights: str | None = Field(None, description="a file of weights for the architecture named by --model")
    strategy: str = Field("auto", description="how to fine-tune")
    task: str | None = Field(None, description="the kind of task, where it is not recognised")
    format: str | None = Field(
        None,
        description="the layout of the data, where it is not recognised: voc, coco, yolo, box-table, folders, table, ... "
        "(table reads a table of boxes as one of classes)",
    )
    image: str | None = Field(None, description="the column that holds the pictures")
    text: tuple[str, ...] | None = Field(
        None, min_length=1, max_length=2, description="the column that holds the texts; said twice, a pair of texts"
    )
    label: str | None = Field(None, description="the column that holds the labels")
    split: str | None = Field(None, description="the column that names the split of each row")
    group: str | None = Field(None, description="the column whose equal values stay on one side of a split")
    separator: str | None = Field(None, description="what separates several labels in one field")
    quoting: Quoting | None = Field(
        None, description="whether quotation marks enclose the fields of a CSV or TSV file (default auto: it is seen)"
    )
    encoding: str | None = Field(None, description="how the text files are encoded (default utf-8)")
    leaks: Leaks | None = Field(
        None,
        description="what is done with samples that several splits hold; drop takes out of training what val or test holds, "
        "and out of val what test holds (default keep)",
    )
    val: float | None = Field(
        None, gt=0, lt=1, description="share of the training data cut off for validation (default 0.15)"
    )
    test: float | None = Field(
        None, gt=0, lt=1, description="share of the data cut off for the test, where none is given (default: none)"
    )
    epochs: int | None = Field(
        None, ge=1, le=100000, description="passes over the training data, in each phase that trains by steps"
    )
    lr: float | None = Field(
        None, gt=0, lt=100, description="learning rate of the head or, where all layers share one, of all"
    )
    batch_size: int | None = Field(None, ge=1, le=65536, description="samples a step")
    optimizer: Optimizer | None = Field(None, description="the optimizer")
    schedule: Schedule | None = Field(None, description="how the learning rate falls")
    augment: Augment | None = Field(None, description="how training pictures are varied")
    balance: Balance | None = Field(None, description="what is done about unequal classes")
    label_smoothing: float | None = Field(None, ge=0, lt=1, description="share of the target spread over all classes")
    ema: float | None = Field(None, gt=0, lt=1, description="decay of an exponential average of the weights")
    patience: int | None = Field(
        None, ge=1, description="stop a phase after so many epochs without a better validation"
    )
    freeze: str | None = Field(None, description="the last stage to keep frozen, with all before it")
    objective: str | None = Field(None, description="what each step minimises (default: supervised, the task's loss)")
    strength: float | None = Field(
        None, gt=0, lt=1000, description="weight of what the objective adds: alpha of rdrop, epsilon of fgm (default 1)"
    )
    rank: int | None = Field(None, ge=1, le=1024, description="rank of the matrices of lora (default 8)")
    adapter: Adapter | None = Field(
        None, description="keep an adapter merged into the weights, or beside them apart as well, as peft reads it"
    )
    reinit: int | None = Field(None, ge=1, description="how many of the last stages begin from fresh weights")
    size: int | None = Field(
        None, ge=16, le=8192, description="what the model reads of a sample: side in pixels, or tokens of a text"
    )
    long: Long | None = Field(None, description="what becomes of texts that are longer than the model reads")
    minutes: float | None = Field(None, gt=0, description="wall-clock budget that is kept")
    target: str | None = Field(
        None, description="samples from where the model is to work, where they may look different; labels are not read"
    )
    adapt: str | None = Field(None, description="what is done where the target looks different (default auto)")
    harmonise: str | None = Field(
        None,
        description="how samples are shown so that target and source look more alike: auto, none, or of pictures content, "
        "contrast, edges, grey, invert, blur, low, of texts plain, normal, lower, short (default auto; none with --adapt none)",
    )
    target_shares: str | dict[str, float] | None = Field(
        None, description="class shares of the target: source, balanced, or a file of names and shares"
    )
    target_labels: str | None = Field(
        None,
        description="labelled samples of the target, 20 or more: they decide whether to adapt, and are learned from",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="names every random choice")
    device: Device = Field("auto", description="where to train")
    precision: PrecisionName = Field("auto", description="arithmetic of the network; auto measures")

    @field_validator("*", mode="before")
    @classmethod
    def _listed(cls, value: Any, info: Any) -> Any:
        """One name stands for a list of one."""
        return (value,) if repeats(info.field_name) and isinstance(value, str) else value

    @classmethod
    def check(cls, values: dict[str, Any], problems: Problems | None = None) -> Options:
        """Options from a dict; None counts as not said.

        Raises `UserError` with every unknown key, wrong value and value out of range at once. With `problems` they are
        added there instead, and the options returned are the others.
        """
        said = {name: value for name, value in values.items() if value is not None}
        try:
            return cls(**said)
        except ValidationError as error:
            wrong = [_problem(cls, item) for item in error.errors()]
            if problems is None:
                raise UserError(*wrong) from None
            problems.found += wrong
            names = {item["loc"][0] for item in error.errors()}
            return cls(**{name: value for name, value in said.items() if name not in names})

    def asked(self) -> dict[str, Any]:
        """What was said, without what was left to the defaults, in the types that YAML and JSON have."""
        said = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}


def flag(name: str) -> str:
    """An option's name as the command line spells it."""
    return "--" + name.replace("_", "-")


def spoken(name: str, value: Any) -> str:
    """An option with its value as the command line spells it: "--text a --text b"."""
    return " ".join(f"{flag(name)} {one}" for one in (value if isinstance(value, list | tuple) else [value]))


def choices(name: str) -> tuple[str, ...]:
    """The allowed values of an option that has a fixed set of them, else ()."""
    annotation = Options.model_fields[name].annotation
    found = [
        value for part in (annotation, *get_args(annotation)) for value in get_args(part) if isinstance(value, str)
    ]
    return tuple(dict.fromkeys(found))


def repeats(name: str) -> bool:
    """Whether an option takes several values, each said on its own."""
    annotation = Options.model_fields[name].annotation
    return any(get_origin(part) is tuple for part in (annotation, *get_args(annotation)))


def _problem(cls: type[Options], error: Any) -> Problem:
    name, value = str(error["loc"][0]), error["input"]
    if error["type"] == "extra_forbidden":
        return Problem(f"option {name!r}", "is not an option of fit", near(name, cls.model_fields))
    if error["type"] == "literal_error":
        return Problem(f"{flag(name)} {value!r}", "is not one of its values", near(str(value), choices(name)))
    means = f"it means: {cls.model_fields[name].description}"
    if error["type"] == "too_long":
        times, most = error["ctx"]["actual_length"], error["ctx"]["max_length"]
        return Problem(spoken(name, value), f"is said {times} times, and may be said {most} times at most", means)
    rule = error["msg"].partition(",")[0].lower().replace("input should", "must")
    return Problem(f"{flag(name)} {value}", rule, means)


class Recipe(BaseModel):
    """A run in one file: the data, what was asked, and what it was resolved to; replaying it gives the run again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    acclimate: str
    data: str
    asked: dict[str, Any] = {}
    resolved: dict[str, Any] = {}
    decisions: dict[str, Any] = {}
    """What the clock and the machine decided; a replay decides the same."""

    def text(self) -> str:
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Raises `UserError` for a file that is not there, is no YAML mapping, or holds a key that a recipe does not have."""
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise IsADirectoryError
            values = yaml.safe_load(path.read_text())
        except FileNotFoundError:
            raise UserError(Problem(f"recipe {str(path)!r}", "is not there", "give the recipe.yaml of a run")) from None
        except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError):
            raise UserError(
                Problem(f"recipe {str(path)!r}", "is not a YAML file", "give the recipe.yaml of a run")
            ) from None
        if not isinstance(values, dict):
            raise UserError(
                Problem(f"recipe {str(path)!r}", "is not a mapping of keys to values", "give the recipe.yaml of a run")
            )
        unknown = [key for key in values if key not in cls.model_fields]
        if unknown:
            raise UserError(
                *(
                    Problem(f"recipe key {key!r}", "is not a key of a recipe", near(str(key), cls.model_fields))
                    for key in unknown
                )
            )
        try:
            return cls(**values)
        except ValidationError as error:
            raise UserError(
                *(
                    Problem(
                        f"recipe key {str(item['loc'][0])!r}", item["msg"].lower(), "see the recipe.yaml of any run"
                    )
                    for item in error.errors()
                )
            ) from None
