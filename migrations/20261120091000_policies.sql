-- Purpose: who may read what. Policies come last and alone: on hosted Supabase they lock many system tables.
-- Locks: exclusive on public.products for an instant; gives up after five seconds rather than queue behind a long reader.
set local lock_timeout = '5s';

drop policy if exists products_visible on public.products;
create policy products_visible on public.products for select to anon, authenticated
  using (visibility = 'public' or owner_id = (select auth.uid()));

-- A shop's old table may have a policy that shows every row. Policies add up, restrictive ones take away.
drop policy if exists products_private_hidden on public.products;
create policy products_private_hidden on public.products as restrictive for select to anon, authenticated
  using (visibility = 'public' or owner_id = (select auth.uid()));
