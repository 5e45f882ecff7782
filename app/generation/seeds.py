"""Seeds of draws that can be made again."""

import hashlib


def draw_seed(generation_seed: int, *, prompt_id: int, version_name: str, made: int, failed: int) -> int:
    """The seed with which a prompt's samples are drawn, 0 to 2^63 - 1: the same for the same circumstances.

    `made` counts the prompt's comparisons so far, `failed` the draws in a row that gave too few distinct samples:
    neither the next comparison nor the next try may get the same samples again.
    """
    circumstances = f"{generation_seed}:{prompt_id}:{version_name}:{made}:{failed}"
    return int.from_bytes(hashlib.sha256(circumstances.encode()).digest()[:8], "big") >> 1
