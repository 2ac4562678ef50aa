"""Speaks Kubernetes: credentials, scaling, the toolbox pod, file streams, access reviews; usable alone."""
