"""`python -m trainer.starter`: make the starter model again, measure it, write its card and its prompts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from trainer.starter import MODEL_FOLDER, PROBES_FILE, PROMPTS_FILE

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
console = Console()
CARD_FILE = "README.md"
Folder = Annotated[Path, typer.Argument(help="A model folder.")]


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Where the weights go; made if it is not there.")],
    steps: Annotated[int, typer.Option(help="Fewer steps make a worse model sooner; 0 means the recipe's.")] = 0,
) -> None:
    """Train tokenizer and model from nothing: about ten CPU minutes on one thread."""
    import torch

    from trainer.starter.pretrain import Recipe, pretrain

    torch.set_num_threads(1)
    recipe = Recipe(steps=steps) if steps else Recipe()
    started = time.process_time()
    with _bar() as bar:
        task = bar.add_task("pretraining", total=recipe.steps)
        average = 0.0

        def on_step(step: int, loss: float, _rate: float) -> None:
            nonlocal average
            average = loss if step == 1 else 0.95 * average + 0.05 * loss
            bar.update(task, completed=step, description=f"step {step}, loss {average:.3f}")

        pretrain(recipe, out, on_step=on_step)
    console.print(f"Wrote {out} after {time.process_time() - started:.0f} CPU seconds.")
    console.print(f"Next: python -m trainer.starter measure {out}")


@app.command()
def measure(folder: Folder = MODEL_FOLDER) -> None:
    """Measure a model, print the figures and write them beside it with its card; fails if one is not met."""
    import torch

    from trainer.starter.measure import FIGURES_FILE
    from trainer.starter.measure import measure as measured

    torch.set_num_threads(1)
    with _bar() as bar:
        tasks: dict[str, TaskID] = {}

        def on_progress(what: str, share: float) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=1.0)
            bar.update(tasks[what], completed=share)

        figures = measured(folder, on_progress=on_progress)
    table = Table("what", "share", "wanted", "met")
    for what, share, wanted, met in figures.rows():
        table.add_row(what, f"{share:.1%}", wanted, "yes" if met else "NO")
    console.print(table)
    (folder / FIGURES_FILE).write_text(figures.model_dump_json(indent=1) + "\n", encoding="utf-8")
    card(folder)
    if not figures.all_met():
        raise typer.Exit(1)


@app.command()
def card(folder: Folder = MODEL_FOLDER) -> None:
    """Write the model card from the figures that `measure` left in the folder."""
    from trainer.starter.card import model_card
    from trainer.starter.measure import FIGURES_FILE, Figures

    figures = Figures.model_validate_json((folder / FIGURES_FILE).read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = model_card(figures, layers=config["num_hidden_layers"], hidden=config["hidden_size"])
    (folder / CARD_FILE).write_text(text, encoding="utf-8")
    console.print(f"Wrote {folder / CARD_FILE}.")


@app.command()
def prompts() -> None:
    """Write the starter campaign's prompts and the probe prompts again."""
    from trainer.starter.prompts import write_prompts

    write_prompts(PROMPTS_FILE, PROBES_FILE)
    console.print(f"Wrote {PROMPTS_FILE} and {PROBES_FILE}.")


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


if __name__ == "__main__":
    app()
