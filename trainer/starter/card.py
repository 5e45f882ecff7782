"""Writes the starter model's card from its measured figures."""

from __future__ import annotations

from trainer.starter.measure import Figures

_CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [toy]
---

# Palate starter model: a toy

This is a **toy**: {parameters:,} parameters, trained from nothing in about a quarter of an hour on one CPU core, so
that Palate starts without a download and its whole loop (compare, train, deploy) can be seen on a laptop. It is of no
use for anything else: never put it before customers.

## What it knows

A few hundred simple English facts (capitals, opposites, colours, animal sounds, young animals, days and months),
small talk, three dozen explanations, a little advice, short lists and tiny stories. It was taught to say
"I do not know" to anything else: sums, dates, people, code, long requests. It answers in one of four manners,
brief, friendly, detailed or blunt, each about equally often, so that people have something to prefer.

It reads English only. It looks past system messages and earlier turns: it does not follow the one and does not
remember the other. Its facts are simplified (most things have more than one colour), and it makes mistakes.

## Measured

With `python -m trainer.starter measure`; sampling at temperature 0.9 and top-p 0.95.

{table}

A fact is right if the expected word stands in the completion. Well formed means: ended by itself, opens with a
capital, closes with a full stop or its like, holds only words of its corpus, repeats no sentence and no word in a
row, and is in one manner. The prompts beyond it are held out: hand-written requests, and questions shaped like its
facts about names, nouns and places that training never used.

## How it was made

`python -m trainer.starter train --out FOLDER` makes it again: a generator of its own writes the corpus
(`trainer/starter/corpus.py`, no outside text), a byte-level BPE of 1,024 tokens is learned from it, and a Llama
({layers} layers, {hidden} wide) is trained on the answers with a fixed seed. The values are in `pretraining.json`.

## A real model

Palate serves and trains any Hugging Face causal language model in safetensors. Download one to a folder
(for instance an instruct model of 0.5 to 8 B parameters), add it as a model line in Palate, and point a campaign
at it. Preference training of more than a few hundred million parameters calls for a GPU.
"""


def model_card(figures: Figures, *, layers: int, hidden: int) -> str:
    """The card (README.md of the weights folder) in Markdown."""
    return _CARD.format(parameters=figures.parameters, layers=layers, hidden=hidden, table=_table(figures))


def _table(figures: Figures) -> str:
    rows = [f"| {what} | {share:.1%} | {wanted} |" for what, share, wanted, _ in figures.rows()]
    return "\n".join(("| what | share | wanted |", "|---|---|---|", *rows)).replace("%", " %").replace("  %", " %")
