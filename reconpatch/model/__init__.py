"""The detector as one path from pixels to score, map and verdict (paper, sections 3.1 and 3.4)."""
