"""From distances to scores, maps and decisions."""
