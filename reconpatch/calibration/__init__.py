"""What held-out nominal images say about scores: statistics, thresholds and what they promise."""
