"""Files that run the nights elsewhere: Airflow, containers, Kubernetes, systemd. Its README.md explains them."""
