"""Proxies: what stands between clients and a server, at layer 4 (bytes) or at layer 7 (HTTP)."""
