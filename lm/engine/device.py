"""The device, number format, threads and memory allocation of the model's computation."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameter numbers of mallopt, from glibc's malloc.h
LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc's upper limit


def choose_device(device: str = "auto") -> torch.device:
    """The torch device of a name; `auto` is the first GPU that CUDA_VISIBLE_DEVICES leaves, else the CPU."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The number format of a name; `auto` is bfloat16 where `has_fast_bfloat16`, else float32.

    Raises ValueError for other names than auto, float32 and bfloat16.
    """
    if dtype == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype {dtype}: use auto, float32 or bfloat16")
    return torch.float32 if dtype == "float32" else torch.bfloat16


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has tensor cores, AMX or AVX512-BF16; elsewhere bfloat16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """The context in which torch computes in bfloat16 where `has_fast_bfloat16`, else in float32."""
    return torch.autocast(device.type, torch.bfloat16) if has_fast_bfloat16(device) else nullcontext()


def use_threads(threads: int | None = None) -> int:
    """Set the number of torch's threads, by default OMP_NUM_THREADS (in Spark the task's CPUs), and return it.

    Raises ValueError for fewer than 1.
    """
    if threads is None:
        stated = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(stated) if stated.isdigit() and int(stated) > 0 else torch.get_num_threads()
    if threads < 1:
        raise ValueError(f"threads {threads}: use at least 1")
    torch.set_num_threads(threads)
    return threads


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks of up to 32 MiB for reuse instead of returning them to the kernel.

    By default the kernel maps and zeroes every large temporary anew. Has no effect without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    mallopt(M_TRIM_THRESHOLD, 512 << 20)


class BatchLimits(NamedTuple):
    """The most that one batch may hold."""

    tokens: int  # of its prompts
    cache_bytes: int  # of its keys and values


def batch_limits(device: torch.device) -> BatchLimits:
    """The limits of a device: fixed ones on a CPU, and by its free memory on a GPU.

    There a third of the memory is for keys and values, and a token of a prompt may take a mebibyte of another third.
    """
    if device.type != "cuda":
        return BatchLimits(8192, 1 << 30)
    free, _ = torch.cuda.mem_get_info(device)
    return BatchLimits(max(1024, min(1 << 16, free // 3 >> 20)), free // 3)


class Buffers:
    """Named scratch tensors that are kept between batches, because the kernel zeroes new memory page by page."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._flat: dict[str, Tensor] = {}
        self.dtype, self.device = dtype, device

    def get(self, name: str, *shape: int, dtype: torch.dtype | None = None, zero: bool = False) -> Tensor:
        """A tensor of this shape with arbitrary content; with `zero`, memory allocated by this call is zero."""
        numbers = int(np.prod(shape))
        flat = self._flat.get(name)
        if flat is None or len(flat) < numbers:
            self._flat.pop(name, None)  # free before growing
            make = torch.zeros if zero else torch.empty
            flat = make(numbers, dtype=dtype or self.dtype, device=self.device)
            self._flat[name] = flat
        return flat[:numbers].view(shape)

    def replace(self, name: str, *shape: int, zero: bool = False) -> Tensor:
        """A newly allocated tensor under a used name; the old tensor stays valid for its holders."""
        self._flat.pop(name, None)
        return self.get(name, *shape, zero=zero)
