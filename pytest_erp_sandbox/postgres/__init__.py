"""Speaks PostgreSQL; knows nothing of pytest, Dolibarr or Kubernetes."""
