"""The starter model: a toy chat model of Palate's own, so that the first start needs no download.

`corpus` writes the text it is trained on (facts, small talk, lists, advice, and an honest "I do not know"
beyond them) in the four `manners`; `pretrain` trains it, `measure` works out the figures that its card
states. `model/` holds the shipped weights, `data/prompts.jsonl` the prompts of the starter campaign and
`data/probes.jsonl` the probe prompts. `python -m trainer.starter --help` lists the commands.

`manners`, `corpus` and `prompts` import no torch.
"""

from pathlib import Path

STARTER_FOLDER = Path(__file__).parent
DATA_FOLDER = STARTER_FOLDER / "data"
MODEL_FOLDER = STARTER_FOLDER / "model"
PROMPTS_FILE = DATA_FOLDER / "prompts.jsonl"
PROBES_FILE = DATA_FOLDER / "probes.jsonl"
