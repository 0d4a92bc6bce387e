"""Folders of text models: where a name leads, what may be read from them, and what identifies them.

Weights are read as safetensors alone, and nothing in a folder is run.  A name on the hub is looked up in the hub's
cache on this machine first and downloaded where it is not there; from then on it is read from the cache, so that a
model does not change under a run.  This module does not depend on how a model encodes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from semalign.errors import TextError, kind_and_line

__all__ = ["INSTALL_HF", "find_folder", "folder_digest", "loading", "model_type", "offline", "require_safetensors"]

INSTALL_HF = 'pip install "semalign[hf]"'

_READ = ("*.json", "*.safetensors", "*.txt", "*.model")
"""What is fetched of a model on the hub: no pickle, no code."""
_TOKENIZERS = ("tokenizer", "vocab", "open_clip_config")
"""How the names of tokenizers' files begin; open_clip's configuration names one of its own."""
_DIGESTED = (".json", ".safetensors", ".txt", ".model")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")


def find_folder(where: str, spec: str) -> Path:
    """Return the folder that ``where`` names: itself, or a model on the hub, OWNER/NAME or OWNER/NAME@REVISION.

    Args:
        where: a folder's path, or a name on the hub.
        spec: what the user wrote, for messages.

    Raises:
        TextError: there is no such folder, and no such model in the cache or on the hub.
    """
    folder = Path(where)
    if folder.is_dir():
        return folder
    if not _NAME.fullmatch(where):
        raise TextError(
            f"the text encoder {spec!r} names no folder at {where!r}, expected a folder, or OWNER/NAME of a model on "
            "the hub: correct the path"
        )
    name, _, revision = where.partition("@")
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise TextError(
            f"the text encoder {spec!r} names no folder, and to look for it on the hub the package huggingface_hub is "
            f"needed, which is missing: correct the path, or {INSTALL_HF}"
        ) from error

    def snapshot(*, local: bool) -> Path:
        return Path(
            hub.snapshot_download(name, revision=revision or None, allow_patterns=list(_READ), local_files_only=local)
        )

    # Whatever the client raises: it has kinds of its own for names, networks and permissions.
    with contextlib.suppress(Exception):
        found = snapshot(local=True)
        if _is_whole(found):
            return found
    try:
        return snapshot(local=False)
    except Exception as error:
        raise TextError(
            f"cannot get the text encoder {spec!r} from the hub ({kind_and_line(error)}), "
            "expected a folder on this machine, or a model there and a network: correct the name, go online, or "
            "download the model elsewhere and give its folder"
        ) from error


def _is_whole(folder: Path) -> bool:
    """Return whether a snapshot has weights and a tokenizer: somebody else may have fetched a part of the model."""
    names = {path.name for path in folder.rglob("*")}
    has_tokenizer = any(name.startswith(_TOKENIZERS) or name.endswith(".model") for name in names)
    return has_tokenizer and any(name.endswith(".safetensors") for name in names) and any(folder.glob("*.json"))


def model_type(folder: Path) -> str | None:
    """Return what the folder's config.json says the model is; None without such a file.

    Raises:
        TextError: the file cannot be read, or names no model_type.
    """
    file = folder / "config.json"
    if not file.is_file():
        return None
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise TextError(
            f"cannot read {file} ({kind_and_line(error)}), expected the config.json of a model, "
            "which names its model_type: copy the model there again"
        ) from error


def require_safetensors(folder: Path) -> None:
    """Refuse a folder without safetensors, and a pickle where it has one.

    Raises:
        TextError: there are no weights as safetensors.
    """
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(file for ending in ("*.bin", "*.pt", "*.pth") for file in folder.glob(ending))
    if pickles:
        raise TextError(
            f"the weights {pickles[0]} are a pickle, which can run code and is never read, expected .safetensors "
            "beside it: save the model again with safe_serialization=True, or name a revision on the hub that has them "
            "(OWNER/NAME@REVISION)"
        )
    raise TextError(f"the folder {folder} holds no weights, expected *.safetensors: copy the model there again")


def folder_digest(folder: Path) -> str:
    """Return 12 hexadecimal digits that change with the weights, the configuration or the tokenizer."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix in _DIGESTED]
    facts = []
    for file in files:
        about = file.stat()
        facts.append((file.relative_to(folder).as_posix(), about.st_size, about.st_mtime_ns))
    return _digest(folder, tuple(facts))


@functools.lru_cache(maxsize=32)
def _digest(folder: Path, facts: tuple[tuple[str, int, int], ...]) -> str:
    """Read every file; ``facts`` (names, sizes, times) tell when that has been done already."""
    whole = hashlib.sha256()
    for name, _, _ in facts:
        with (folder / name).open("rb") as handle:
            content = hashlib.file_digest(handle, "sha256").hexdigest()
        whole.update(f"{name}\n{content}\n".encode())
    return whole.hexdigest()[:12]


@contextlib.contextmanager
def loading(where: Path | str, expected: str) -> Iterator[None]:
    """Load a model without network and noise, and turn whatever a loader raises into a sentence about its files.

    Args:
        where: the folder or file.
        expected: what should be there, and what to do.

    Raises:
        TextError: anything else was raised.
    """
    try:
        with offline():
            yield
    except TextError:
        raise
    except Exception as error:  # Whatever a loader of other people's files raises, the files are at fault.
        raise TextError(
            f"cannot load the text encoder in {where} ({kind_and_line(error)}), expected {expected}"
        ) from error


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Keep the hub's client offline and the loader quiet, and put everything back.

    The environment's HF_HUB_OFFLINE is read once, when the client is imported, and would stay for the whole process.
    """
    constants: Any = importlib.import_module("huggingface_hub.constants")
    was_offline = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        with _quiet():
            yield
    finally:
        constants.HF_HUB_OFFLINE = was_offline


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing bars and from warning of the image tower's weights, which a text tower lacks."""
    if importlib.util.find_spec("transformers") is None:
        yield
        return
    logging: Any = importlib.import_module("transformers.utils.logging")
    showed_bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if showed_bars:
            logging.enable_progress_bar()
