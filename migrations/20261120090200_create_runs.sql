-- Purpose: the queue (runs), its checkpoints (steps), its ledger (calls, budgets), its story (events), and who works (workers).
-- Locks: new tables only.

create table if not exists public.runs (
  id uuid primary key default gen_random_uuid(),
  product_id uuid not null references public.products (id) on delete cascade,
  run_no integer not null,
  recipe text not null,
  params jsonb not null default '{}',
  pack text,
  pack_version integer,
  generation integer not null,
  base_generation integer not null,
  status text not null default 'pending', -- pending -> processing -> completed | failed | cancelled; processing -> pending
  priority integer not null default 0,
  run_at timestamptz not null default now(),
  attempts integer not null default 0,
  max_attempts integer not null,
  deferrals integer not null default 0,
  locked_by text,
  lease_token uuid,
  lease_expires_at timestamptz,
  cancel_requested_at timestamptz,
  error_code text,
  error_message text,
  manifest jsonb,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  completed_at timestamptz,
  processing_time double precision,
  constraint runs_one_number_each unique (product_id, run_no),
  constraint runs_status_known check (status in ('pending', 'processing', 'completed', 'failed', 'cancelled')),
  constraint runs_leased_while_processing
    check (status <> 'processing' or (locked_by is not null and lease_token is not null and lease_expires_at is not null)),
  constraint runs_ended_when_final check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null)),
  constraint runs_max_attempts_positive check (max_attempts > 0), -- else no claim of it, and of its batch, could succeed
  constraint runs_attempts_within_limit check (attempts between 0 and max_attempts),
  constraint runs_priority_sane check (priority between -100 and 100)
);
comment on table public.runs is 'One execution of a recipe on a product: the row that workers claim.';
comment on column public.runs.attempts is 'How often the run was started; counted at claim, so that a crash counts. Given back on an orderly hand-back.';
comment on column public.runs.deferrals is 'How often it was put off because a provider or Supabase did not answer.';
comment on column public.runs.lease_token is 'New at every claim. Each later write must show it; kept at the end so that a repeated last write is recognised.';
comment on column public.runs.cancel_requested_at is
  'Somebody wants it stopped: nothing new begins, what is paid for is kept, then it ends as cancelled.';
comment on column public.runs.processing_time is 'Seconds from the first start to the end.';

create unique index if not exists runs_one_active_per_product on public.runs (product_id)
  where status in ('pending', 'processing');
-- The two hot queries of a claim; both stay small however many finished rows are kept.
create index if not exists runs_due on public.runs (priority desc, run_at, id) where status = 'pending';
create index if not exists runs_leases on public.runs (lease_expires_at) where status = 'processing';

create table if not exists public.steps (
  id uuid primary key default gen_random_uuid(),
  run_id uuid not null references public.runs (id) on delete cascade,
  product_id uuid not null references public.products (id) on delete cascade,
  name text not null,
  input_hash text not null,
  state text not null default 'started', -- started -> done | failed
  reused boolean not null default false,
  bucket text,
  object_key text,
  media_type text,
  content_sha256 text,
  width integer,
  height integer,
  error_code text,
  error_message text,
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint steps_once_per_run unique (run_id, name),
  constraint steps_state_known check (state in ('started', 'done', 'failed')),
  constraint steps_done_has_picture check (
    state <> 'done' or (bucket is not null and object_key is not null and media_type is not null
      and content_sha256 is not null and coalesce(width, 0) > 0 and coalesce(height, 0) > 0 and finished_at is not null))
);
comment on table public.steps is 'One checkpointed piece of a run: what is finished and where the picture lies.';
comment on column public.steps.input_hash is
  'Of everything the result depends on: input bytes, provider, model, parameters, pack version, generation.';
-- Finds a finished step to reuse, and the steps of a product that is deleted.
create index if not exists steps_of_product on public.steps (product_id, name, input_hash);

create table if not exists public.calls (
  id uuid primary key,
  product_id uuid references public.products (id) on delete set null,
  run_id uuid references public.runs (id) on delete set null,
  step_name text not null,
  input_hash text not null,
  capability text not null,
  provider text not null,
  model text not null,
  state text not null default 'intended', -- intended -> sent -> done | failed | unknown; unknown -> done | failed when a late fact arrives
  sent_by uuid,
  task_id text,
  budget_owner text,
  budget_run uuid,
  reserved_micros bigint not null,
  settled_micros bigint,
  cost_source text, -- reported by the provider, or our estimate
  bucket text not null,
  object_key text not null,
  media_type text,
  content_sha256 text,
  width integer,
  height integer,
  request_id text,
  error_code text,
  error_message text,
  repeatable boolean not null default false,
  latency_s double precision,
  created_at timestamptz not null default now(),
  sent_at timestamptz,
  finished_at timestamptz,
  constraint calls_state_known check (state in ('intended', 'sent', 'done', 'failed', 'unknown')),
  constraint calls_settled_when_ended check ((state in ('done', 'failed', 'unknown')) = (settled_micros is not null)),
  constraint calls_done_has_picture check (
    state <> 'done' or (media_type is not null and content_sha256 is not null
      and coalesce(width, 0) > 0 and coalesce(height, 0) > 0)),
  constraint calls_money_not_negative check (reserved_micros >= 0 and settled_micros >= 0),
  constraint calls_cost_source_known check (cost_source in ('reported', 'estimated'))
);
comment on table public.calls is 'The ledger: one row for each request to a provider, written before it. Outlives its product.';
comment on column public.calls.object_key is
  'Where the answer will lie, settled with the intent: after a crash a look there tells whether the answer was saved.';
comment on column public.calls.repeatable is 'Failed, and for certain nothing was accepted: the same run may try again.';
comment on column public.calls.budget_owner is 'Whose budget it was reserved against: it is settled there, whatever became of the product.';
comment on column public.calls.budget_run is 'The run whose budget it was reserved against; run_id moves on when a later run adopts the call.';
comment on column public.calls.sent_by is 'The lease under which it was sent.';
create index if not exists calls_of_step on public.calls (product_id, step_name, input_hash, created_at desc);
create index if not exists calls_of_run on public.calls (run_id);
create index if not exists calls_by_day on public.calls (created_at);
create index if not exists calls_open on public.calls (created_at) where state in ('intended', 'sent');

create table if not exists public.budgets (
  scope text not null, -- day, owner, run: always reserved in this order
  scope_key text not null default '',
  period date not null,
  limit_micros bigint,
  reserved_micros bigint not null default 0,
  spent_micros bigint not null default 0,
  warned_at timestamptz,
  primary key (scope, scope_key, period),
  constraint budgets_scope_known check (scope in ('day', 'owner', 'run')),
  constraint budgets_money_not_negative check (reserved_micros >= 0 and spent_micros >= 0)
);
comment on table public.budgets is 'What may be spent and what is: reserved before a call, settled after it. Micro-dollars; period is a UTC day.';
comment on column public.budgets.warned_at is 'When it was reported that four fifths of it are used up: once for each.';
create index if not exists budgets_of_day on public.budgets (period, scope);

create table if not exists public.idempotency_keys (
  owner text not null,
  key text not null,
  request_hash text not null,
  answer jsonb not null,
  created_at timestamptz not null default now(),
  primary key (owner, key),
  constraint idempotency_keys_key_sane check (char_length(key) between 1 and 200)
);
comment on table public.idempotency_keys is 'The first answer to a write that carried an Idempotency-Key; a repeat gets the same one. Kept for a day.';
create index if not exists idempotency_keys_by_age on public.idempotency_keys (created_at);

create table if not exists public.events (
  id bigint generated always as identity primary key,
  txid xid8 not null default pg_current_xact_id(),
  product_id uuid not null references public.products (id) on delete cascade,
  seq bigint not null,
  run_id uuid,
  type text not null,
  data jsonb not null default '{}',
  created_at timestamptz not null default now(),
  constraint events_numbered_per_product unique (product_id, seq)
);
comment on table public.events is
  'What happened to a product, numbered without gaps in commit order. A feed over all orders by (txid, id) below the oldest running transaction.';
create index if not exists events_feed on public.events (txid, id);

create table if not exists public.workers (
  id text primary key,
  slots integer not null,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now()
);
comment on table public.workers is 'Who is at work: one row a worker, renewed with its leases.';

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

create table if not exists public.maintenance (
  the_only_row boolean primary key default true,
  ran_at timestamptz not null default '-infinity',
  upload_seen text not null default '',
  constraint maintenance_has_one_row check (the_only_row)
);
comment on table public.maintenance is 'When maintenance was last done, and how far the search for uploads without a product has come.';

alter table public.runs enable row level security;
alter table public.steps enable row level security;
alter table public.calls enable row level security;
alter table public.budgets enable row level security;
alter table public.idempotency_keys enable row level security;
alter table public.events enable row level security;
alter table public.workers enable row level security;
revoke all on
  public.runs, public.steps, public.calls, public.budgets, public.idempotency_keys, public.events, public.workers
  from public, anon, authenticated;
grant select, insert, update, delete on
  public.runs, public.steps, public.calls, public.budgets, public.idempotency_keys, public.events, public.workers
  to service_role;
alter table public.objects_to_remove enable row level security;
revoke all on public.objects_to_remove from public, anon, authenticated;
grant select, insert, update, delete on public.objects_to_remove to service_role;
alter table public.maintenance enable row level security;
revoke all on public.maintenance from public, anon, authenticated;
grant select, insert, update, delete on public.maintenance to service_role;
