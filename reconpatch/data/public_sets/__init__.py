"""Public data sets: where they are, how they are downloaded whole, and how they are unpacked."""
