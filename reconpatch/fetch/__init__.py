"""Public data sets: where they are, how they come here whole, and how they are unpacked without harm."""
