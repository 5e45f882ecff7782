"""From chat messages to token ids and back: the one place where a chat template is applied.

Prompt and completion are tokenized apart, as they were when the completion was written, so that no
token spans the boundary. Control tokens that appear inside a message (`<|im_end|>` typed by a user)
are read as ordinary text.

A model without a chat template gets the **plain default**: a prompt of a single user message is its
text as it stands (the model continues it); any other prompt is written as turns `System: …`, `User: …`,
`Assistant: …` with a blank line between them, ending in `Assistant:`. The tokenizer's own opening token
(such as `<s>`) goes in front where its post-processor puts one. A completion ends with the model's end
token; a tokenizer that uses one token for both, such as `<s>` of tinystories-260k, is fine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from trainer.contract.base import Message

PLAIN_TEMPLATE = "palate plain template 1"
"""Names the plain default where the hash of a chat template is recorded."""

_ROLE_LABELS = {"system": "System", "user": "User", "assistant": "Assistant"}
_MARK = "XmarkX"


def prompt_token_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Tokens of a prompt up to where the assistant's completion begins.

    Raises whatever the chat template raises on messages that it does not take (a system message in a
    template that knows none, two user turns in a row).
    """
    if tokenizer.chat_template is None:
        return list(tokenizer(plain_text(messages), split_special_tokens=True, verbose=False)["input_ids"])
    encoded = tokenizer.apply_chat_template(
        _as_dicts(messages),
        add_generation_prompt=True,
        return_dict=True,
        sanitize_control_tokens=True,
        tokenizer_kwargs={"verbose": False},
    )
    return list(encoded["input_ids"])


def completion_token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a completion, its end token included where the tokenizer names one."""
    ids = list(tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])
    end = turn_end_token_id(tokenizer)
    return ids if end is None else [*ids, end]


def completion_text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """The text of generated tokens, without the end token and other special ones."""
    text: str = tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def end_token_ids(tokenizer: PreTrainedTokenizerBase, *configs: Any) -> set[int]:
    """All tokens at which generation stops: the template's, the tokenizer's, and those of the configs given.

    `configs` are the model's config and generation config; each may name one `eos_token_id`, several or none.
    """
    ids = {turn_end_token_id(tokenizer), tokenizer.eos_token_id}
    for config in configs:
        named = getattr(config, "eos_token_id", None)
        ids.update(named if isinstance(named, list | tuple) else [named])
    return {int(token_id) for token_id in ids if token_id is not None}


@lru_cache(maxsize=32)
def turn_end_token_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that closes an assistant's turn: what the chat template writes there, else the tokenizer's end token.

    Some models close a turn with another token than their tokenizer's end token (`<end_of_turn>`).
    """
    if tokenizer.chat_template is not None:
        first = _first_token_after_assistant(tokenizer)
        if first is not None and first in _control_token_ids(tokenizer):
            return first
    end: int | None = tokenizer.eos_token_id
    return end


def _first_token_after_assistant(tokenizer: PreTrainedTokenizerBase) -> int | None:
    messages = [{"role": "user", "content": "u"}, {"role": "assistant", "content": _MARK}]
    rendered: str = tokenizer.apply_chat_template(messages, tokenize=False)
    _, found, tail = rendered.rpartition(_MARK)
    ids = tokenizer(tail, add_special_tokens=False)["input_ids"] if found and tail else []
    return int(ids[0]) if ids else None


def _control_token_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}


def plain_text(messages: Sequence[Message]) -> str:
    """A prompt in the plain default of models without a chat template (see the module's text)."""
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].content
    turns = [f"{_ROLE_LABELS[message.role]}: {message.content}" for message in messages]
    return "\n\n".join([*turns, "Assistant:"])


def template_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of the chat template in use, or of the plain default's name."""
    template = PLAIN_TEMPLATE if tokenizer.chat_template is None else tokenizer.get_chat_template()
    return hashlib.sha256(template.encode()).hexdigest()


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of what turns text into tokens; truncation and padding settings are left out."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = tokenizer.get_vocab() if backend is None else json.loads(backend.to_str())
    for setting in ("truncation", "padding"):
        if backend is not None:
            described.pop(setting, None)
    return hashlib.sha256(json.dumps(described, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
