"""Text that is safe to show: secrets hidden, Markdown and spreadsheet cells escaped."""
