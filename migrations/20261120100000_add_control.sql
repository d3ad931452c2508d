-- Purpose: what control and caps have to remember: a wish to cancel, what a call was reserved against, which objects are
-- to be removed.
-- Locks: exclusive on runs, calls and product_private for an instant (no rewrite: no defaults but constants).
set local lock_timeout = '5s';

alter table public.runs add column if not exists cancel_requested_at timestamptz;
comment on column public.runs.cancel_requested_at is
  'Somebody wants it stopped: nothing new begins, what is paid for is kept, then it ends as cancelled.';

alter table public.calls
  add column if not exists budget_owner text,
  add column if not exists budget_run uuid;
comment on column public.calls.budget_owner is 'Whose budget it was reserved against: it is settled there, whatever became of the product.';
comment on column public.calls.budget_run is 'The run whose budget it was reserved against; run_id moves on when a later run adopts the call.';

alter table public.product_private add column if not exists earlier_raws jsonb not null default '[]';
comment on column public.product_private.earlier_raws is 'Uploads that later ones replaced: [{"bucket", "key"}]. They go with the product.';

create table if not exists public.objects_to_remove (
  bucket text not null,
  object_key text not null,
  call_id uuid,
  recorded_at timestamptz not null default now(),
  primary key (bucket, object_key)
);
comment on table public.objects_to_remove is
  'Objects that nothing refers to any more: recorded in the transaction that let go of them, deleted here once they are gone.';
comment on column public.objects_to_remove.call_id is 'The call whose answer lies there. While it is not settled the object may still land.';
alter table public.objects_to_remove enable row level security;
revoke all on public.objects_to_remove from public, anon, authenticated;
grant select, insert, update, delete on public.objects_to_remove to service_role;
