"""Banks as files: safetensors with sentences, encoder and checksum, or a plain tensor with names beside it.

Nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from semalign.errors import TextError, first_line
from semalign.files import write_bytes
from semalign.text.bank import TextBank, fingerprint, first_repeated
from semalign.text.sentences import check_sentences
from semalign.wording import Message

__all__ = ["FORMAT_VERSION", "load_bank", "save_bank"]

FORMAT_VERSION: Final = 2
"""Of saved banks and of the cache."""


def save_bank(path: Path, bank: TextBank) -> None:
    """Write the bank as safetensors: tensor "features", and sentences, encoder and checksum as JSON in the metadata.

    Equal banks give equal bytes.

    Raises:
        TextError: the path does not end in .safetensors.
        OutputError: the file cannot be written.
    """
    _require_safetensors_ending(path)
    features = bank.features.detach().cpu().contiguous()
    facts = {
        "format": FORMAT_VERSION,
        "encoder": bank.encoder,
        "sentences": bank.sentences,
        "owners": bank.owners,
        "notes": [note.to_dict() for note in bank.notes],
        "sha256": fingerprint(bank),
    }
    # One key: safetensors writes several in an order that changes from call to call.
    metadata = {"semalign": json.dumps(facts, ensure_ascii=False)}
    write_bytes(path, safetensors.torch.save({"features": features}, metadata=metadata))


def load_bank(path: Path) -> TextBank:
    """Read a bank written by `save_bank`, or a plain S x Ct tensor with its S names, one a line, in a .txt beside it.

    Features are returned as stored (not brought to unit norm), as float32.  A plain bank's encoder is named
    "bank:STEM@DIGEST".

    Raises:
        TextError: the file is missing, no safetensors, damaged, of another format version, holds no or several 2-D
            tensors, or its names are missing, repeated, blank or of another number than its rows.
    """
    _require_safetensors_ending(path)
    if not path.is_file():
        raise TextError(f"no text bank at {path}, expected a .safetensors file: check the path")
    try:
        with safe_open(path, framework="pt") as handle:
            facts = (handle.metadata() or {}).get("semalign")
            shapes = {name: handle.get_slice(name).get_shape() for name in sorted(handle.keys())}
            tables = [name for name, shape in shapes.items() if len(shape) == 2]
            if len(tables) != 1:
                held = ", ".join(f"{name!r} {tuple(shape)}" for name, shape in shapes.items()) or "no tensor"
                raise TextError(
                    f"the text bank {path} holds {len(tables)} 2-D tensors ({held}), "
                    "expected exactly one of sentences x dim: save the features alone"
                )
            stored = handle.get_tensor(tables[0])
    except (OSError, SafetensorError) as error:
        raise TextError(
            f"cannot read the text bank {path} as safetensors ({first_line(error)}): it is damaged or of another "
            "kind, write it again with safetensors"
        ) from error
    if not stored.is_floating_point():
        raise TextError(f"the text bank {path} holds numbers of type {stored.dtype}, expected floating point")
    features = stored.float()
    if facts is not None:
        return _with_facts(path, features, facts)
    names = _read_names(path.with_suffix(".txt"), path)
    if len(names) != len(features):
        raise TextError(
            f"the text bank {path} has {len(features)} rows, but {path.with_suffix('.txt').name} beside it names "
            f"{len(names)}, expected one line per row in row order"
        )
    bank = TextBank(features, names, str(path))
    return dataclasses.replace(bank, encoder=f"bank:{path.stem}@{fingerprint(bank)[:12]}")


def _with_facts(path: Path, features: Tensor, facts: str) -> TextBank:
    """Return the bank of a file written by `save_bank`, checked against its metadata."""
    again = "encode the sentences again"
    try:
        value: Any = json.loads(facts)
        version, encoder, sentences, digest = (value[key] for key in ("format", "encoder", "sentences", "sha256"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TextError(
            f"the text bank {path} has metadata that cannot be read ({type(error).__name__}: {error}), {again}"
        ) from error
    if version != FORMAT_VERSION:
        raise TextError(f"the text bank {path} has format {version!r}, expected {FORMAT_VERSION}: {again}")
    owners = value.get("owners")
    if not isinstance(encoder, str) or not all(map(_is_strings, (sentences, owners or []))):
        raise TextError(f"the text bank {path} has metadata without an encoder's name or sentences, {again}")
    try:
        notes = tuple(Message.from_dict(note) for note in value.get("notes") or [])
    except (KeyError, TypeError) as error:
        raise TextError(f"the text bank {path} has notes that cannot be read ({error}), {again}") from error
    check_sentences(sentences, f"sentences of the text bank {path}")
    bank = TextBank(features, tuple(sentences), encoder, None if owners is None else tuple(owners), notes)
    if fingerprint(bank) != digest:
        raise TextError(f"the text bank {path} does not match its own checksum, it is damaged: {again}")
    return bank


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _read_names(path: Path, bank_path: Path) -> tuple[str, ...]:
    try:
        # utf-8-sig: editors of some systems put a byte order mark before the first name.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise TextError(
            f"the text bank {bank_path} carries no sentences and there is no {path.name} beside it, "
            "expected one name per row, one a line"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"cannot read the names {path} ({error}), expected UTF-8 text, one name a line") from error
    # Not splitlines(), which also cuts at characters that a sentence may hold.
    names = text.removesuffix("\n").split("\n")
    check_sentences(names, f"names in {path}")
    repeated = first_repeated(names)
    if repeated is not None:
        raise TextError(f"the names {path} hold {repeated!r} twice, expected different names: rows are found by name")
    return tuple(names)


def _require_safetensors_ending(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise TextError(
            f"the text bank {path} ends in {path.suffix!r}, expected '.safetensors': pickled tensors can run code and "
            "are never read, convert them with safetensors.torch.save_file"
        )
