"""Coreset selection and the memory bank."""

from reconpatch.memory.bank import MemoryBank
from reconpatch.memory.coreset import coreset_size, k_center_greedy
from reconpatch.memory.streaming import select_coreset

__all__ = ["MemoryBank", "coreset_size", "k_center_greedy", "select_coreset"]
