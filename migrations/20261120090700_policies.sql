-- Purpose: who may read what. Policies come last and alone: on hosted Supabase they lock many system tables.
-- Locks: exclusive on public.products for an instant; gives up after five seconds rather than queue behind a long reader.
set local lock_timeout = '5s';

drop policy if exists products_visible on public.products;
create policy products_visible on public.products for select to anon, authenticated
  using (visibility = 'public' or owner_id = (select auth.uid()));
