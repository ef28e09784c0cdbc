"""The text tower's input: CLIP's tokenizer, and prompts as embeddings."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gp_jax.errors import Notice, UserError
from gp_jax.files import read_json
from gp_jax.json_config import short
from gp_jax.models.clip import TextConfig, TextTower
from gp_jax.parallel.gather import whole

# Of a folder of CLIP's tokenizer, what transformers reads.
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def embed_text(tower: TextTower, tokenizer: Any, prompt: str) -> np.ndarray:
    """[1, L, D] float32, L being the length that the tower reads; a `Notice` says what of the prompt is cut off."""
    length = tower.config.max_position_embeddings
    if (count := len(tokenizer(prompt)["input_ids"])) > length:
        cut = tokenizer.decode(tokenizer(prompt)["input_ids"][length - 1 : -1])
        warnings.warn(
            f"the prompt has {count} tokens and the text tower reads {length}: cut off is {cut!r}", Notice, stacklevel=2
        )
    ids = tokenizer(prompt, padding="max_length", max_length=length, truncation=True)["input_ids"]
    return np.asarray(whole(_read_text(tower, np.array([ids]))), np.float32)


def load_tokenizer(folder: Path, config: TextConfig) -> Any:
    """CLIP's tokenizer, for a text tower; raises UserError where it is not there, damaged or another one."""
    from transformers import CLIPTokenizer  # takes seconds to import

    # Without a vocabulary transformers makes one up.
    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise UserError(f"there is a text tower, but no tokenizer in {folder}: copy it from the model's origin")
    files = {
        name: read_json(folder / name)
        for name in TOKENIZER_FILES
        if name.endswith("json") and (folder / name).is_file()
    }
    kind = files.get("tokenizer_config.json", {}).get("tokenizer_class") or "CLIPTokenizer"
    if kind not in ("CLIPTokenizer", "CLIPTokenizerFast"):
        raise UserError(f"{folder} holds the tokenizer of another text tower ({short(kind)}); CLIP's is needed")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        highest = max(tokenizer("a cat")["input_ids"] + list(tokenizer.get_vocab().values()))
    except Exception as error:  # whatever a damaged file makes transformers raise
        reason = short(str(error).strip().partition("\n")[0])
        raise UserError(f"the tokenizer in {folder} is damaged ({reason}): copy it again from its origin") from error
    if highest >= config.vocab_size:
        raise UserError(f"the tokenizer in {folder} has {highest + 1} words, and the text tower {config.vocab_size}")
    return tokenizer


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies what a tokenizer's folder has of `TOKENIZER_FILES`."""
    target.mkdir()
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


@jax.jit
def _read_text(tower: TextTower, ids: jax.Array) -> jax.Array:
    return tower(ids)
