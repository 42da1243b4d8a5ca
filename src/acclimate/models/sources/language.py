"""Language models of the library transformers, as folders: their card, their module, their tokenizer."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from acclimate.core.errors import MissingExtra, fail
from acclimate.core.places import cache_folder
from acclimate.core.run import write_whole
from acclimate.models.card import Card
from acclimate.models.texts import TOKENIZER, Texts

READS = 512
"""Tokens that are read of a text unless asked otherwise: what most encoders can."""
TOKENIZER_FILES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
"""What older tokenizers keep instead of tokenizer.json."""
UNUSED = ("pooler.",)
"""Beginnings of names that a folder may lack: nothing of ours reads them."""


def is_language(config: dict[str, Any]) -> bool:
    """Whether config.json describes a model that reads tokens."""
    return "model_type" in config and "vocab_size" in config and "image_size" not in config


def preprocessing(folder: Path, config: dict[str, Any], name: str, prefix: str = "") -> Texts:
    """Raises `UserError` where the folder has no tokenizer."""
    config = _known(config, name).to_dict()
    most = next((config[key] for key in ("max_position_embeddings", "n_positions") if config.get(key)), READS)
    if config["model_type"] in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        most -= 2  # their first two rows of positions are not for tokens
    return Texts(min(most, READS), most, config["vocab_size"], prefix, folder=_tokenizer(folder, name))


def _tokenizer(folder: Path, name: str) -> Path:
    """The folder that holds tokenizer.json: this one, or one of the cache where an older form was brought to it."""
    if (folder / TOKENIZER).is_file():
        return folder
    own = [folder / each for each in TOKENIZER_FILES if (folder / each).is_file()]
    if not own:
        raise fail(f"model {name!r}", "has no tokenizer", f"put the {TOKENIZER} it was saved with into {folder}")
    digest = hashlib.blake2b(b"".join(path.read_bytes() for path in own), digest_size=16).hexdigest()
    kept = cache_folder() / "tokenizers" / digest
    if not (kept / TOKENIZER).is_file():
        rule, remedy = "has a tokenizer that cannot be read", f"put the {TOKENIZER} it was saved with into {folder}"
        try:
            with quiet():
                made = _transformers(name).AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # whatever its readers raise: the user's next step is the same
            raise fail(f"model {name!r}", f"{rule} ({str(error).splitlines()[0][:100]})", remedy) from None
        if len(made) <= len(made.all_special_tokens) + 1:  # made of nothing: the file it needs is another
            raise fail(f"model {name!r}", rule, remedy)
        write_whole(kept / TOKENIZER, made.backend_tokenizer.to_str())
    return kept


def build(card: Card, folder: Path | None) -> nn.Module:
    """The bare model, with the weights in `folder`, read strictly; with random ones where it is None."""
    config = _known(card.config, card.name)
    auto = _transformers(card.name).AutoModel
    if folder is None:
        return auto.from_config(config).float()
    asked = {"dtype": "float32", "local_files_only": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    with reading(card.name), quiet():
        module, said = auto.from_pretrained(folder, config=config, **asked)
    check_complete(said, f"model {card.name!r}", UNUSED)
    return module


def check_complete(said: dict[str, Any], value: str, spare: tuple[str, ...] = ()) -> None:
    """Raises `UserError` where transformers found weights missing or of another shape; not for names that begin with one of `spare`.

    `said`: its loading info; `value` names the weights in the error.
    """
    keys = (*said["missing_keys"], *said["mismatched_keys"])
    names = {str(key[0] if isinstance(key, tuple) else key) for key in keys}
    wrong = sorted(name for name in names if not name.startswith(spare))
    if wrong:
        shown = ", ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise fail(value, f"lacks weights of its architecture: {shown}", "restore its files")


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Inside, weights that transformers cannot read are told as the user's to mend; it runs no pickled code."""
    try:
        yield
    except SafetensorError as error:
        raise fail(f"model {name!r}", f"has damaged weights ({error})", "restore its files") from None
    except pickle.UnpicklingError:
        remedy = "save the weights alone, as safetensors"
        raise fail(f"model {name!r}", "has weights that hold pickled code, which is never run", remedy) from None


def _known(config: dict[str, Any], name: str) -> Any:
    mapping = _transformers(name).models.auto.configuration_auto.CONFIG_MAPPING
    kind = config["model_type"]
    if kind not in mapping:
        raise fail(f"model {name!r}", f"is of a kind that transformers does not know: {kind}", "update it")
    known = mapping[kind].from_dict(dict(config))
    if known.is_encoder_decoder:
        raise fail(f"model {name!r}", f"is an encoder and a decoder in one ({kind})", "use an encoder or a decoder")
    return known


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingExtra(f"model {name!r}", "text") from None
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Without the report of what was not used, and without a progress bar on a file that is here."""
    from transformers import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
