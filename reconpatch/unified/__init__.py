"""One model for all categories: one f, one bank for all or one per category."""
