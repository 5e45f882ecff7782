"""Trains the starter model's tokenizer: byte-level BPE on the corpus, with a chat template."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from trainer.starter.corpus import examples

VOCABULARY = 1024
PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CONTEXT_TOKENS = 1024

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- endif -%}
"""
"""Each turn opens with its role and ends with the end token; a system message is a turn like the others."""


def train_tokenizer(*, seed: int, chats: int = 20_000) -> PreTrainedTokenizerFast:
    """Learn the vocabulary from the first chats of the corpus; the same seed gives the same tokenizer.

    Prompts beyond the model are left out: their odd words would take room from those that it writes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, chats), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        model_max_length=CONTEXT_TOKENS,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def _texts(seed: int, chats: int) -> Iterator[str]:
    for chat in islice(examples(seed), chats):
        yield chat.answer
        if chat.kind != "unknown":
            yield chat.prompt[-1].content
