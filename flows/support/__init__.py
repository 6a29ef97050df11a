"""What several flows share: retries, locks, notices, command lines."""
