"""Breaks a whole Vitrine on purpose and keeps the books: `python -m chaos`. What is counted: `docs/reliability.md`.

Nothing of the product knows of it. Scripted doors stand before Supabase and before the providers; the worker is told
their addresses, and all that it asks for passes through them: seen, named, counted, spoiled, or answered by `kill -9`.
"""
