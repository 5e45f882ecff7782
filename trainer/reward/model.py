"""Folders of reward models: transformers' sequence classification with one label, and no bias on its head.

Transformers takes the last token that is not padding. So the token that pads must be one that no completion ends with:
where a tokenizer pads with its end token, as many do, the reward would be that of the token before.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from trainer.artifact import write_model
from trainer.chat import end_token_ids
from trainer.contract.files import write_whole
from trainer.errors import ModelError

HEAD = "score"
"""What transformers calls the head of every decoder that classifies."""


def load_reward_model(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A reward model in float32 and in evaluation mode, of its own folder or of that of a language model.

    Over a language model the head is fresh: all zeros, so that every completion has the reward 0 until something is
    learnt. The folder has been verified (`verify_model`). Raises ModelError.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=1,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"The model in {folder} cannot give rewards: {said}") from error
    missing = set(found["missing_keys"])
    if not isinstance(getattr(model, HEAD, None), torch.nn.Linear) or missing - {f"{HEAD}.weight"}:
        raise ModelError(
            f"The model in {folder} ({type(model).__name__}) cannot become a reward model: it needs a head named "
            f"{HEAD} of one matrix over a body that the folder holds whole. Choose another model."
        )
    if missing:
        torch.nn.init.zeros_(model.get_submodule(HEAD).weight)
    model.config.get_text_config().pad_token_id = padding_token_id(tokenizer, model)
    model.eval()
    return model, tokenizer


def padding_token_id(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> int:
    """A token that no completion ends with: the tokenizer's own where that will do, else another special one, which no
    text becomes (`chat`), else the first of the vocabulary that ends nothing.
    """
    ends = end_token_ids(tokenizer, model.config)
    usual = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, *tokenizer.all_special_ids]
    candidates = [token for token in [*usual, *range(len(ends) + 1)] if token is not None and token not in ends]
    return int(candidates[0])


def write_reward_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, start: Path, dtype: torch.dtype
) -> None:
    """Write a folder in `dtype` that `AutoModelForSequenceClassification` loads; `start` gives the tokenizer.

    Where the tokenizer would pad with another token than the model knows, it is told of that one.
    """
    write_model(model, folder, start=start, dtype=dtype)
    pads = model.config.get_text_config().pad_token_id
    if pads != tokenizer.pad_token_id and pads in tokenizer.all_special_ids:
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_bytes()) | {"pad_token": tokenizer.convert_ids_to_tokens(pads)}
        write_whole(path, json.dumps(settings, indent=2, ensure_ascii=False).encode())
