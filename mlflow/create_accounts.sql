CREATE DATABASE mlflow_accounts OWNER mlflow;
