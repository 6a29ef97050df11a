"""What the library does with mlflow and great_expectations; nothing here loads before it is asked for."""
