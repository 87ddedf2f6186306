"""The stages of deduplication, for the recipe."""

from collections.abc import Sequence

from corpus.dedup.exact import Exact
from corpus.dedup.minhash import MinHash
from corpus.dedup.paragraphs import Paragraphs
from corpus.dedup.signatures import Signatures, SignaturesConfig
from corpus.dedup.spans import LongSpans
from corpus.settings import UserError
from corpus.stage import Stage

__all__ = ["Exact", "LongSpans", "MinHash", "Paragraphs", "Signatures", "check_deduplication"]

# What two stages that share their groups must have in common.
ALIKE = ("threshold", "recall", "permutations", "shingle", "containment", "shortest_share")


def check_deduplication(stages: Sequence[Stage], path: str) -> None:
    """Refuse a recipe whose MinHash stages do not fit its `signatures`, or each other.

    Raises:
        UserError: names the recipe at `path`, the stage and the key.
    """
    _check_groups(stages, path)
    makers = [stage for stage in stages if isinstance(stage, Signatures)]
    if not makers:
        return
    made = makers[0].config
    for position, stage in enumerate(stages):
        if not isinstance(stage, MinHash):
            continue
        for key in ("permutations", "shingle"):
            wanted, own = getattr(made, key), getattr(stage.config, key)
            if wanted != own:
                raise UserError(
                    f"{path}: stages.{position}.{stage.name}: {key}: is {_shown(own)}, and "
                    f"'signatures' has {_shown(wanted)}: write the same in both"
                )
        if stage.config.against and made.seed != SignaturesConfig().seed:
            raise UserError(
                f"{path}: stages.{position}.{stage.name}: against: signature stores are made with "
                f"the seed {SignaturesConfig().seed}, and 'signatures' has {made.seed}: leave "
                "`seed` out there"
            )


def _check_groups(stages: Sequence[Stage], path: str) -> None:
    """Refuse a stage that takes groups which were linked by other settings than its own."""
    leaver: MinHash | None = None
    for position, stage in enumerate(stages):
        if not isinstance(stage, MinHash):
            continue
        if stage.config.leave_groups:
            leaver = stage
        if not stage.config.take_groups:
            continue
        where = f"{path}: stages.{position}.{stage.name}"
        if leaver is None:
            raise UserError(
                f"{where}: take_groups: no stage before it leaves groups: set `leave_groups` in "
                "'minhash-local'"
            )
        for key in ALIKE:
            wanted, own = getattr(leaver.config, key), getattr(stage.config, key)
            if wanted != own:
                raise UserError(
                    f"{where}: {key}: is {_shown(own)}, and {leaver.name!r}, whose groups it "
                    f"takes, has {_shown(wanted)}: write the same in both, or let it link itself "
                    "(without `take_groups`)"
                )


def _shown(value: object) -> str:
    content = value.model_dump() if hasattr(value, "model_dump") else value
    return str(content)
