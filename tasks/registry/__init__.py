"""MLflow: runs, versions, gate, promotion, its log, and lineage."""
