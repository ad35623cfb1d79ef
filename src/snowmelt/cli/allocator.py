"""Settings of the memory allocators that make a network faster, for the command line; a library leaves its host's allocator alone.

The tensors between two layers are megabytes that are made and freed in every call. glibc gives such pieces back to the system at once, and the
system fills them with zeros, page by page, when they are asked for again: up to a quarter of the time of a call. With `M_MMAP_THRESHOLD` and
`M_TRIM_THRESHOLD` raised they are kept. On a GPU, `expandable_segments` lets torch's allocator grow what it has, so that batches of many sizes
do not fragment it. What the user has set stays; where there is no glibc, nothing happens.
"""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8  # of glibc's malloc.h
_MMAP_BYTES = 32 << 20  # the most that glibc takes
_TRIM_BYTES = 1 << 30
_TOP_PAD_BYTES = 64 << 20
_ARENAS = 2
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES", "LD_PRELOAD")
_CUDA = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # the name since torch 2.9, and the one before
OFF = "SNOWMELT_ALLOCATOR"  # "0" leaves all as it is


def settle() -> bool:
    """Set what helps, before anything large is allocated; whether glibc's allocator was set."""
    if os.environ.get(OFF) == "0":
        return False
    if sys.platform == "linux" and not any(os.environ.get(name) for name in _CUDA):
        os.environ.update(dict.fromkeys(_CUDA, "expandable_segments:True"))
    return _keep_pages()


def share_pages() -> bool:
    """Let all threads of a server share two arenas; whether glibc's allocator was set.

    Each thread would keep what it has freed for itself, and a studio whose every request has another thread would hold a hundred megabytes more.
    """
    return os.environ.get(OFF) != "0" and not os.environ.get("MALLOC_ARENA_MAX") and _set((_M_ARENA_MAX, _ARENAS))


def _keep_pages() -> bool:
    """Raise glibc's thresholds; False where there is no glibc, or the user chose otherwise."""
    return _set((_M_MMAP_THRESHOLD, _MMAP_BYTES), (_M_TRIM_THRESHOLD, _TRIM_BYTES), (_M_TOP_PAD, _TOP_PAD_BYTES))


def _set(*settings: tuple[int, int]) -> bool:
    if any(os.environ.get(name) for name in _OWN):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - another C library may have a mallopt that means something else
        return all([libc.mallopt(name, value) == 1 for name, value in settings])
    except (OSError, AttributeError, TypeError):
        return False
