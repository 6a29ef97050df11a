"""What runs beside a machine: server, export, monitoring and inbox."""
