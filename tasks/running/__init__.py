"""What runs a stage, knows that it is done, and records it."""
