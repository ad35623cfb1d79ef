"""Train, validation, test: decided by what a picture holds, never by where it stands.

A picture's *digest* (BLAKE2b of its bytes) is read as a number u in [0, 1). It is a test picture where
u < test, a validation picture where u < test + validation, else a training picture. So a picture that
occurs twice falls into one split, and adding pictures moves none that were there. Only where a split would
be empty, in a folder of a few dozen, does it take the picture with the smallest digest instead.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal, TypeAlias

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def digest(content: bytes | memoryview) -> bytes:
    """The 16 bytes that stand for a picture."""
    return hashlib.blake2b(content, digest_size=16).digest()


def share(key: bytes) -> float:
    """A digest as a number in [0, 1)."""
    return (int.from_bytes(key[:8], "big") >> 11) / 2**53


def choose(keys: Sequence[bytes], split: Split, *, validation: float, test: float, name: str) -> list[int]:
    """The positions, in order, of the pictures that belong to `split`.

    Args:
        keys: one digest per picture.
        split: the split asked for.
        validation: its part of all pictures, in [0, 0.5].
        test: its part, in [0, 0.5].
        name: what the pictures are called in an error.

    Raises:
        ValueError: there are too few different pictures to split, or the split asked for is empty.
    """
    rest = sorted(set(keys))
    needed = 1 + (validation > 0) + (test > 0)
    if len(rest) < needed:
        raise ValueError(
            f"{name} holds {len(rest)} different picture(s), too few to split: "
            f"add pictures (at least {needed}), or set data.validation and data.test to 0"
        )
    taken: dict[Split, list[bytes]] = {}
    parts: tuple[tuple[Split, float, float], ...] = (("test", test, test), ("validation", test + validation, validation))
    for part, bound, wanted in parts:
        found = [key for key in rest if share(key) < bound] if wanted else []
        taken[part] = found or rest[: 1 if wanted else 0]
        rest = rest[len(taken[part]) :]
    taken["train"] = rest
    members = set(taken[split])
    if not members:
        raise ValueError(f"no picture of {name} is left for {split}: add pictures, or change data.validation and data.test")
    return [i for i, key in enumerate(keys) if key in members]


def thin(positions: Sequence[int], keys: Sequence[bytes], limit: int | None) -> list[int]:
    """At most `limit` of `positions`, those with the smallest digests, in order: a larger limit only adds."""
    if limit is None or len(positions) <= limit:
        return list(positions)
    return sorted(sorted(positions, key=lambda i: (keys[i], i))[:limit])
