"""Supabase Realtime on a bare Postgres: row changes from the write-ahead log, broadcast, presence."""
