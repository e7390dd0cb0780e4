"""What orchestrators run: Airflow operators and decorators, Dagster checks and gate assets."""
