"""New images on their way into the data set or the quarantine."""
