"""Images, masks, layouts, groups and the manifest of a category."""
