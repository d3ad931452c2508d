"""Supabase Storage on the local disk: buckets, objects, signed links, and the policies on `storage.objects`.

`service.StorageService` is the entrance; one module per group of calls lies beside it.
"""
