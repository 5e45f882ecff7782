"""Eight completions of one prompt, and eight clients at once: tokens per CPU second of the model server and others.

    python -m benchmarks.serving [--rounds 3] [--tokens 96] [--only decoder|completions|clients] [--device cuda]

A Llama of 12.5 million random parameters (vocabulary 8,192), float32, one thread, temperature 0.9, top-p 0.95, no
completion ends before its limit. Arms take turns within one run. `in process` calls the decoder of the model server
and transformers' `generate(num_return_sequences=8)`; of servers the CPU time of the process counts, asked for n = 8
or, where it does not take n, for eight completions at the same time. All that `transformers[serving]` needs is there.

On a GPU the model has 1.2 billion parameters, in bfloat16, and the time is that of the clock.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from benchmarks.model_servers import SAMPLING, Server, palate_server, transformers_server
from benchmarks.processor import cpu_seconds
from tests.factories.serving import decoding_on, save, served
from trainer.models import load_model, stored_dtype
from trainer.serving.batch import Batch

COPIES = 8
VOCABULARY = 8192
PROMPTS = (100, 800)


def main() -> None:
    """Measure, and print one table per question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--only", choices=["decoder", "completions", "clients"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="palate-serving-") as name, ExitStack() as stack:
        device = torch.device(options.device)
        folder = save(Path(name) / "model", random_llama(device))
        arms = {}
        if options.only != "clients":
            arms = {"Palate, in process": ours(folder, device), "generate, in process": generate(folder, device)}
        if options.only != "decoder":
            palate = stack.enter_context(palate_server(folder, device=options.device))
            arms["Palate's model server"] = over_http(palate, device, at_once=1)
        if options.only in {None, "completions"}:
            for title, more in TRANSFORMERS_SERVE.items():
                server = stack.enter_context(transformers_server(folder, more, device=options.device))
                arms[title] = over_http(server, device, at_once=COPIES)
        if options.only != "clients":
            compare(arms, rounds=options.rounds, tokens=options.tokens, unit=_unit(device))
        if options.only in {None, "clients"}:
            compare_clients(palate, rounds=options.rounds, tokens=options.tokens)


Arm = Callable[[list[int], int, int], float]
"""Draws eight completions: the prompt's tokens, tokens per completion, a seed. Seconds of the CPU, or by the clock
where a GPU computes."""


def _unit(device: torch.device) -> str:
    return "CPU second" if device.type == "cpu" else "second"


def _seconds(device: torch.device) -> float:
    """By this process's clock, once all that it ordered is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def compare(arms: dict[str, Arm], *, rounds: int, tokens: int, unit: str) -> None:
    """Every arm on every prompt, in turns; medians of tokens per `unit`."""
    rng = random.Random(1)  # noqa: S311
    found: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds + 1):
        for length in PROMPTS:
            prompt = [rng.randrange(1, VOCABULARY) for _ in range(length)]
            for title, arm in arms.items():
                rate = COPIES * tokens / arm(prompt, tokens, number)
                if number:  # the first round warms up
                    found.setdefault((title, length), []).append(rate)
    print(f"| eight completions of {tokens} tokens, tokens per {unit} | " + " | ".join(
        f"prompt of {length}" for length in PROMPTS) + " |\n|---|" + "---|" * len(PROMPTS))  # fmt: skip
    for title in arms:
        print(f"| {title} | " + " | ".join(f"{median(found[title, length]):.0f}" for length in PROMPTS) + " |")
    print(flush=True)


def random_llama(device: torch.device) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model, and a tokenizer that has a word for each token."""
    torch.manual_seed(0)
    small = {"hidden_size": 320, "intermediate_size": 864, "num_hidden_layers": 8, "num_attention_heads": 5}
    large = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 18, "num_attention_heads": 32}
    config = LlamaConfig(
        vocab_size=VOCABULARY, **(small if device.type == "cpu" else large), head_dim=64, max_position_embeddings=4096,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    backend = Tokenizer(models.WordLevel({f"w{number}": number for number in range(VOCABULARY)}, unk_token="w0"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="w0", chat_template=template)  # noqa: S106
    model = LlamaForCausalLM(config)
    return (model if device.type == "cpu" else model.bfloat16()).eval(), tokenizer


# --- In process


def ours(folder: Path, device: torch.device) -> Arm:
    """The model server's decoder."""
    model, tokenizer = load_model(folder, dtype=stored_dtype(folder))
    version = served((model.to(device), tokenizer), end_ids=frozenset())

    def draw(prompt: list[int], tokens: int, seed: int) -> float:
        begun = _seconds(device)
        decoding = decoding_on(version, prompt, choices=COPIES, **SAMPLING, max_tokens=tokens, seed=seed)
        batch = Batch(version)
        with torch.inference_mode():
            batch.admit(decoding)
            while len(batch):
                batch.advance()
        return _seconds(device) - begun

    return draw


def generate(folder: Path, device: torch.device) -> Arm:
    """transformers' own."""
    model, _ = load_model(folder, dtype=stored_dtype(folder))
    model.to(device)

    def draw(prompt: list[int], tokens: int, seed: int) -> float:
        begun = _seconds(device)
        torch.manual_seed(seed)
        read = torch.tensor([prompt], device=device)
        drawn = model.generate(
            read, attention_mask=torch.ones_like(read), do_sample=True, **SAMPLING, top_k=0,
            num_return_sequences=COPIES, max_new_tokens=tokens, pad_token_id=0,
        )  # fmt: skip
        assert drawn.shape == (COPIES, len(prompt) + tokens)
        return _seconds(device) - begun

    return draw


# --- Over HTTP


TRANSFORMERS_SERVE = {
    "transformers serve": [],
    "transformers serve --continuous-batching": [
        "--continuous-batching", "--cb-num-blocks", "256", "--cb-max-batch-tokens", "1024",
    ],
}  # fmt: skip


def over_http(server: Server, device: torch.device, *, at_once: int) -> Arm:
    """Eight completions in as many requests at the same time."""

    def draw(prompt: list[int], tokens: int, seed: int) -> float:
        begun = seconds()
        options = {"n": COPIES // at_once} if at_once < COPIES else {}
        with ThreadPoolExecutor(at_once) as clients:
            asking = [
                clients.submit(server.ask, prompt, max_tokens=tokens, seed=seed * COPIES + number, **options)
                for number in range(at_once)
            ]
            drawn = sum(one.result() for one in asking)
        assert drawn == COPIES * tokens, drawn
        return seconds() - begun

    def seconds() -> float:
        return cpu_seconds(server.pid) if device.type == "cpu" else time.perf_counter()

    return draw


# --- Many clients


def compare_clients(server: Server, *, rounds: int, tokens: int) -> None:
    """Eight streaming clients at once, and the same requests one after another."""
    rng = random.Random(2)  # noqa: S311
    found: dict[int, list[tuple[float, float]]] = {1: [], COPIES: []}
    for number in range(rounds + 1):
        prompts = [[rng.randrange(1, VOCABULARY) for _ in range(rng.randrange(50, 300))] for _ in range(COPIES)]
        for at_once, took in found.items():
            begun, cpu_begun = time.monotonic(), cpu_seconds(server.pid)
            ask = partial(server.ask, max_tokens=tokens, stream=True, seed=number)
            with ThreadPoolExecutor(at_once) as clients:
                list(clients.map(ask, prompts))
            if number:
                took.append((time.monotonic() - begun, cpu_seconds(server.pid) - cpu_begun))
    print("| eight streams, prompts of 50 to 300 tokens | tokens per second | tokens per CPU second |\n|---|---|---|")
    for at_once, title in ((1, "one after another"), (COPIES, "at once")):
        wall, cpu = (median(each) for each in zip(*found[at_once], strict=True))
        print(f"| {title} | {COPIES * tokens / wall:.0f} | {COPIES * tokens / cpu:.0f} |")


if __name__ == "__main__":
    main()
