"""Conversations ↔ token ids: each turn is the token of its role, which stands nowhere else, and then the tokens of what is said."""

from collections.abc import Mapping, Sequence

from raysynth.codecs._base_tokenizer import BaseVocabulary
from raysynth.codecs._tokenizer import Vocabulary
from raysynth.errors import DataError
from raysynth.turns import MOST_ROLES, Turn

Ids = tuple[list[int], bool]
"""The tokens of a value, and whether they tell all of it."""


def check_roles(found: Mapping[str, Sequence[str]]) -> None:
    """DataError on a column with too many of them."""
    for column, roles in found.items():
        if len(roles) > MOST_ROLES:
            raise DataError(
                f"column '{column}': its turns have more than {MOST_ROLES} roles ({', '.join(roles[:3])}, …), and each is a token of its "
                "own. Roles are such as user and assistant: write the names of people in what they say"
            )


def encode_turns(
    vocabulary: Vocabulary | BaseVocabulary, roles: Mapping[str, int], values: Sequence[list[Turn] | None]
) -> list[Ids]:
    """A role that no train row has ends what can be told of its conversation."""
    said = iter(vocabulary.encode([turn["content"] for turns in values for turn in turns or ()]))
    return [_ids([(roles.get(turn["role"]), next(said)) for turn in turns or ()]) for turns in values]


def _ids(turns: list[tuple[int | None, list[int]]]) -> Ids:
    ids: list[int] = []
    for role, said in turns:
        if role is None:
            return ids, False
        ids += [role, *said]
    return ids, True


def decode_turns(vocabulary: Vocabulary | BaseVocabulary, roles: Mapping[str, int], ids: Sequence[int]) -> list[Turn]:
    named = {token: role for role, token in roles.items()}
    starts = [place for place, token in enumerate(ids) if token in named]
    ends = [*starts[1:], len(ids)]
    return [
        {"role": named[ids[start]], "content": vocabulary.decode(ids[start + 1 : end])}
        for start, end in zip(starts, ends, strict=False)
    ]
