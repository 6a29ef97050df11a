"""Studies of the method itself: ablations, tuning, pictures of the embedding. They fit many detectors."""
