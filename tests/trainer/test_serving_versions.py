"""The registry: routing, aliases, leases and the memory budget, without a model in sight."""

from typing import Any

import pytest

from trainer.serving.errors import ModelMemoryError, ModelNotFoundError, NameTakenError
from trainer.serving.reading import SharedReader
from trainer.serving.text import SharedTokenizer
from trainer.serving.versions import ModelVersion, Registry
from trainer.serving.weights import Weights


def version(name: str, *, size: int = 40, weights: Weights | None = None) -> ModelVersion:
    """A version of `size` bytes beside its weights; the registry never looks into its model."""
    return ModelVersion(
        name=name,
        path=f"/models/{name}",
        sha256=name,
        bytes=size,
        model=None,
        tokenizer=SharedTokenizer(None),
        reader=SharedReader,
        end_ids=frozenset(),
        context_tokens=8,
        tokenizer_sha256="t",
        chat_template_sha256="c",
        weights=weights,
    )


@pytest.fixture
def registry() -> Registry:
    """Room for 100 bytes, `old` and `new` of 40 loaded in that order."""
    registry = Registry(max_bytes=100)
    registry.add(version("old"))
    registry.add(version("new"))
    return registry


def names(registry: Registry) -> list[str]:
    """What requests can name, aliases aside."""
    return [version.name for version in registry.versions()]


def test_a_request_keeps_the_version_it_began_with_when_the_alias_moves(registry: Registry) -> None:
    registry.point("line/current", "old")
    lease = registry.lease("line/current")
    registry.point("line/current", "new")
    assert lease.version.name == "old"
    assert registry.lease("line/current").version.name == "new"


def test_an_unknown_name_is_told_what_is_loaded(registry: Registry) -> None:
    registry.point("line/current", "old")
    with pytest.raises(ModelNotFoundError, match=r"'newer' is not loaded here. Loaded are: line/current, old, new"):
        registry.lease("newer")
    with pytest.raises(ModelNotFoundError):
        registry.point("line/current", "newer")
    with pytest.raises(ModelNotFoundError):
        registry.remove_alias("line/candidate")


def test_a_name_means_one_thing(registry: Registry) -> None:
    registry.point("line/current", "old")
    with pytest.raises(NameTakenError):
        registry.point("new", "old")
    with pytest.raises(NameTakenError):
        registry.check_name_free("line/current")


def test_a_version_that_an_alias_needs_is_not_unloaded(registry: Registry) -> None:
    registry.point("line/current", "old")
    with pytest.raises(NameTakenError, match="line/current points at it"):
        registry.unload("old")
    registry.remove_alias("line/current")
    registry.unload("old")
    assert names(registry) == ["new"]


def test_an_unloaded_version_takes_memory_until_its_last_request_has_ended(registry: Registry) -> None:
    leases = [registry.lease("old"), registry.lease("old")]
    registry.point("line/current", "new")
    registry.unload("old")
    leases[0].give_back()
    with pytest.raises(ModelMemoryError, match="needs"):
        registry.make_room("third", 60)
    leases[1].give_back()
    registry.make_room("third", 60)
    assert names(registry) == ["new"]


def test_the_least_recently_used_idle_version_without_an_alias_makes_room(registry: Registry) -> None:
    registry.lease("old").give_back()
    registry.make_room("third", 60)
    assert names(registry) == ["old"]


@pytest.mark.parametrize("needed", [61, 200])
def test_nothing_is_dropped_where_it_would_not_be_enough(registry: Registry, needed: int) -> None:
    registry.point("line/current", "old")
    lease = registry.lease("new")
    with pytest.raises(
        ModelMemoryError, match=r"old 0.0 MB \(line/current\); new 0.0 MB \(1 under way\).*--max-model-bytes"
    ):
        registry.make_room("third", needed)
    lease.give_back()
    assert names(registry) == ["old", "new"]


def test_a_version_in_use_is_not_dropped(registry: Registry) -> None:
    lease = registry.lease("old")
    registry.make_room("third", 60)
    assert names(registry) == ["old"]
    lease.give_back()


def test_the_state_counts_requests_under_way(registry: Registry) -> None:
    registry.point("line/current", "new")
    leases = [registry.lease("new"), registry.lease("line/current")]
    state = registry.state()
    assert {found.name: found.requests_under_way for found in state.versions} == {"old": 0, "new": 2}
    assert state.aliases == {"line/current": "new"}
    for lease in leases:
        lease.give_back()


def test_weights_that_versions_share_count_once_and_stay_while_one_needs_them() -> None:
    registry = Registry(max_bytes=100)
    base: Any = Weights("b", bytes=60, parameters=15, model=None)  # type: ignore[arg-type]
    for name in ("one", "two"):
        registry.make_room(name, 10, on=registry.find_weights("b"))
        registry.add(version(name, size=10, weights=base))
    registry.make_room("three", 20, on=base)
    assert names(registry) == ["one", "two"]
    registry.make_room("three", 35, on=base)
    assert names(registry) == [], "their own bytes go, the base that the third needs does not"
    registry.add(version("three", size=35, weights=base))
    assert registry.find_weights("b") is base
    with pytest.raises(ModelMemoryError, match=r"three 0.0 MB \(idle\)"):
        registry.make_room("four", 101)
    registry.make_room("four", 100)
    assert registry.find_weights("b") is None
