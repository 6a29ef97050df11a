"""Contrastive training of the modulation f (paper, sections 3.2 and 3.3)."""
