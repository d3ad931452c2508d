"""Model APIs, one file each: what goes over the wire, what the answers mean, what a call costs.

An adapter asks once. Repeats, limits, budgets and the ledger are wrapped around it by `ai_clients.py`.
"""
