"""The embedded Supabase: Postgres and one gateway process, for development, tests and the bench.

Never imported by the product: it is reached over HTTP only, as a hosted project is. It listens on the
loopback interface alone and keeps everything in one folder.
"""
