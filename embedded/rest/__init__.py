"""The REST service: the part of PostgREST that Supabase's clients use."""
