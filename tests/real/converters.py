"""Published preference data in the house format (docs/formats.md); one small function for each source.

Each takes a row of its source and gives house lines, and raises NotConvertible where the row makes none. Whatever is
wrong with a line beyond that, an empty completion for example, is for the import to say.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Line = dict[str, Any]
Message = dict[str, str]
Convert = Callable[[Row], list[Line]]


class NotConvertible(ValueError):
    """Why a row makes no comparison."""


def convert_file(source: Path, target: Path, convert: Convert) -> Counter[str]:
    """Convert a gzip file of JSON lines; how many rows were read, lines written, and rows left out by reason."""
    figures: Counter[str] = Counter()
    with target.open("w", encoding="utf-8") as file:
        for row in rows_of(source):
            figures["rows"] += 1
            try:
                lines = convert(row)
            except NotConvertible as reason:
                figures[str(reason)] += 1
                continue
            figures["lines"] += len(lines)
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return figures


def rows_of(source: Path) -> Iterator[Row]:
    """The rows of a gzip file of JSON lines."""
    with gzip.open(source, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def hh_rlhf(row: Row) -> list[Line]:
    """Anthropic's HH-RLHF: two dialogues that share all but the last assistant turn. One annotator, not named."""
    chosen, rejected = _dialogue(row["chosen"]), _dialogue(row["rejected"])
    if chosen[:-1] != rejected[:-1]:
        raise NotConvertible("the dialogues differ before the last turn")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise NotConvertible("a dialogue does not end in an assistant turn")
    completions = [chosen[-1]["content"], rejected[-1]["content"]]
    return [{"prompt": chosen[:-1], "completions": completions, "judgments": [{"ranking": "1>2"}], "tags": ["hh-rlhf"]}]


def _dialogue(text: str) -> list[Message]:
    parts = _TURN.split(text)
    if parts[0].strip() or len(parts) < 3:
        raise NotConvertible("a text is no dialogue of Human and Assistant")
    turns = zip(parts[1::2], parts[2::2], strict=True)
    return [{"role": _ROLES[speaker], "content": content.strip()} for speaker, content in turns]


def qa_feedback(row: Row) -> list[Line]:
    """Fine-grained RLHF's QA-feedback: six verdicts on four completions. A ranking where they make one, else pairs."""
    verdicts = {(int(key[0]) - 1, int(key[2]) - 1): value for key, value in row["pairwise"].items()}
    shared = {"prompt": row["prompt"], "tags": ["qa-feedback"]}
    ranking = weak_order(verdicts, len(row["completions"]))
    if ranking is not None:
        return [{**shared, "id": row["id"], "completions": row["completions"], "judgments": [{"ranking": ranking}]}]
    return [
        {
            **shared,
            "id": f"{row['id']}-{first + 1}v{second + 1}",
            "completions": [row["completions"][first], row["completions"][second]],
            "judgments": [{"ranking": _PAIR[verdict]}],
        }
        for (first, second), verdict in sorted(verdicts.items())
    ]


_PAIR = {0: "1=2", 1: "1>2", 2: "2>1"}


def weak_order(verdicts: dict[tuple[int, int], int], count: int) -> str | None:
    """The ranking that says of every pair what the verdicts say (0 tie, 1 first, 2 second), if there is one."""
    wins = [0.0] * count
    for (first, second), verdict in verdicts.items():
        wins[first] += {0: 0.5, 1: 1, 2: 0}[verdict]
        wins[second] += {0: 0.5, 1: 0, 2: 1}[verdict]
    # In a ranking the equally good have won equally often and the better more often: no other order can fit.
    implied = {
        (a, b): 0 if wins[a] == wins[b] else 1 if wins[a] > wins[b] else 2 for a, b in combinations(range(count), 2)
    }
    if implied != verdicts:
        return None
    groups = [
        [place + 1 for place in range(count) if wins[place] == score] for score in sorted(set(wins), reverse=True)
    ]
    return ">".join("=".join(map(str, group)) for group in groups)


def pandalm(row: Row) -> list[Line]:
    """PandaLM's test set: two responses by two models, judged by the same three annotators."""
    prompt = "\n\n".join(part for part in (row["instruction"], row["input"]) if part)
    judgments = [{"annotator": name, "ranking": _PAIR[verdict]} for name, verdict in row["annotations"].items()]
    completions = [{"text": row[f"response_{n}"], "model": row[f"model_{n}"]} for n in (1, 2)]
    return [
        {"id": row["id"], "prompt": prompt, "completions": completions, "judgments": judgments, "tags": ["pandalm"]}
    ]


def llmbar(row: Row) -> list[Line]:
    """LLMBar: two outputs, of which one follows the instruction."""
    judgment = {"ranking": _PAIR[row["label"]]}
    tags = ["llmbar", row["subset"]]
    completions = [row["output_1"], row["output_2"]]
    return [
        {"id": row["id"], "prompt": row["prompt"], "completions": completions, "judgments": [judgment], "tags": tags}
    ]


def oasst(row: Row) -> list[Line]:
    """An OpenAssistant tree: wherever a person's turn has two or more ranked replies, those are a comparison."""
    return list(_comparisons(row["prompt"], []))


def _comparisons(turn: Row, before: list[Message]) -> Iterator[Line]:
    role = "user" if turn["role"] == "prompter" else "assistant"
    dialogue = [*before, {"role": role, "content": turn["text"]}]
    ranked = [each for each in turn["replies"] if each.get("rank") is not None and each["role"] == "assistant"]
    if len(ranked) >= 2:
        places = sorted(range(len(ranked)), key=lambda place: ranked[place]["rank"])
        yield {
            "id": turn["message_id"],
            "prompt": dialogue,
            "completions": [{"text": each["text"], "model": each.get("model_name") or "person"} for each in ranked],
            "judgments": [{"annotator": "oasst", "ranking": ">".join(str(place + 1) for place in places)}],
            "tags": ["oasst"],
        }
    for reply in turn["replies"]:
        yield from _comparisons(reply, dialogue)
