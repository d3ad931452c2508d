-- Purpose: checkpoints and ledger. A step is begun (reused, adopted, resumed or bought), its call is recorded before it is
-- sent and settled after it, and the step is finished.
-- Locks: new functions only.

-- Reserve money before a call, always in this order: day, owner, run. `limits` = {"day", "owner", "run"} in micro-dollars;
-- no entry, no cap. Raises VT002, with the figures in `detail`, when a cap would be passed.
create or replace function public.reserve_v1(held public.runs, owner text, amount bigint, limits jsonb) returns void
language plpgsql security invoker set search_path = '' as $$
declare
  today date := (now() at time zone 'utc')::date;
  wanted record;
  budget public.budgets;
  before bigint;
begin
  for wanted in
    select * from (values
      ('day', '', today, 'The budget of the day'),
      ('owner', owner, today, 'The budget of this owner for the day'),
      ('run', held.id::text, (held.created_at at time zone 'utc')::date, 'The budget of this run')
    ) as scopes (scope, scope_key, period, label) order by scope
  loop
    insert into public.budgets as b (scope, scope_key, period, limit_micros, reserved_micros)
    values (wanted.scope, wanted.scope_key, wanted.period, (limits ->> wanted.scope)::bigint, amount)
    on conflict (scope, scope_key, period) do update
      set reserved_micros = b.reserved_micros + excluded.reserved_micros, limit_micros = excluded.limit_micros
    returning * into budget;
    before := budget.reserved_micros + budget.spent_micros - amount;
    if before + amount > budget.limit_micros then
      raise exception '% is used up: $% of $% is spent or reserved, and the next picture costs $%. %', wanted.label,
        trim_scale(round(before / 1e6, 4)), trim_scale(round(budget.limit_micros / 1e6, 4)),
        trim_scale(round(amount / 1e6, 4)),
        case wanted.scope when 'run' then 'Another run has one of its own.' else 'It is renewed at 0:00 UTC.' end
        using errcode = 'VT002', detail = jsonb_build_object(
          'scope', wanted.scope, 'limit_micros', budget.limit_micros, 'spent_micros', before, 'price_micros', amount,
          'resets_at', case when wanted.scope <> 'run' then (today + 1)::timestamp at time zone 'utc' end)::text;
    end if;
  end loop;
end $$;

-- Begin steps that start together. For each, in order, a verdict:
--   reuse    it was finished before, or its call was: {"object": {...}}; nothing is called
--   buy      a call is recorded as intended: {"call_id", "bucket", "object_key"}; mark it sent, then send it
--   resume   a call was accepted before: {"call_id", "task_id", ...}; ask for the task
--   recover  a call was sent and its worker is gone: {"call_id", ...}; look whether the answer was saved, else settle it as unknown
--   refuse   no further call is allowed in this run: {"error_code", "error_message"}
-- Each of `steps`: {"name", "input_hash", "capability", "provider", "model", "price_micros", "call_id", "bucket", "object_key"}.
-- `unknown_allowed`: how many calls of one step may end unknown in one run before it is refused (retry_once: 1, hold: 0).
-- `plan`: the steps a watcher will see, {name: {"state", "label"}}; written once, with the first step.
-- No step of a run that somebody wants stopped is begun (VT007).
create or replace function public.begin_steps_v1(
  run uuid, lease uuid, steps jsonb, unknown_allowed integer default 1, limits jsonb default '{}', plan jsonb default null)
returns jsonb
language plpgsql security invoker set search_path = '' as $$
declare
  held public.runs := public.held_run_v1(run, lease);
  owner text;
  wanted record;
  finished public.steps;
  latest public.calls;
  unknown integer;
  verdict jsonb;
  verdicts jsonb := '[]';
begin
  if held.cancel_requested_at is not null then
    raise exception 'This run is being cancelled.' using errcode = 'VT007';
  end if;
  select coalesce(p.owner_id::text, 'shop') into owner from public.products p where p.id = held.product_id;
  if plan is not null then
    update public.products p set
      progress = jsonb_build_object('done', 0, 'total', (select count(*) from jsonb_object_keys(plan)), 'steps', plan)
    where p.id = held.product_id;
  end if;
  for wanted in
    select * from jsonb_to_recordset(steps) as s (
      name text, input_hash text, capability text, provider text, model text, price_micros bigint,
      call_id uuid, bucket text, object_key text)
  loop
    select * into finished from public.steps s
    where s.product_id = held.product_id and s.name = wanted.name and s.input_hash = wanted.input_hash and s.state = 'done'
    order by s.finished_at desc limit 1;
    select * into latest from public.calls c
    where c.product_id = held.product_id and c.step_name = wanted.name and c.input_hash = wanted.input_hash
    order by (c.state = 'done') desc, c.created_at desc limit 1; -- an answer that came late is as good as any
    verdict := null;
    if finished.id is not null then
      verdict := jsonb_build_object('verdict', 'reuse', 'object', jsonb_build_object(
        'bucket', finished.bucket, 'key', finished.object_key, 'media_type', finished.media_type,
        'sha256', finished.content_sha256, 'width', finished.width, 'height', finished.height));
    elsif latest.state = 'done' then
      verdict := jsonb_build_object('verdict', 'reuse', 'object', jsonb_build_object(
        'bucket', latest.bucket, 'key', latest.object_key, 'media_type', latest.media_type,
        'sha256', latest.content_sha256, 'width', latest.width, 'height', latest.height));
    elsif latest.state = 'sent' then
      verdict := jsonb_build_object(
        'verdict', case when latest.task_id is null then 'recover' else 'resume' end, 'task_id', latest.task_id);
      update public.calls c set run_id = run where c.id = latest.id;
    elsif latest.state = 'intended' then
      verdict := '{"verdict": "buy"}';
      update public.calls c set run_id = run where c.id = latest.id;
    elsif latest.run_id = run and latest.state = 'failed' and not latest.repeatable then
      verdict := jsonb_build_object(
        'verdict', 'refuse', 'error_code', latest.error_code, 'error_message', latest.error_message);
    else
      select count(*) into unknown from public.calls c
      where c.run_id = run and c.step_name = wanted.name and c.state = 'unknown';
      if unknown > unknown_allowed then
        verdict := jsonb_build_object('verdict', 'refuse', 'error_code', 'charge_unknown', 'error_message',
          'The provider gave no answer and may have charged all the same; process it again to consent to another charge.');
      else
        perform public.reserve_v1(held, owner, wanted.price_micros, limits);
        insert into public.calls
          (id, product_id, run_id, step_name, input_hash, capability, provider, model, reserved_micros, bucket, object_key,
           budget_owner, budget_run)
        values
          (wanted.call_id, held.product_id, run, wanted.name, wanted.input_hash, wanted.capability, wanted.provider,
           wanted.model, wanted.price_micros, wanted.bucket, wanted.object_key, owner, run)
        returning * into latest;
        verdict := '{"verdict": "buy"}';
      end if;
    end if;
    if verdict ->> 'verdict' in ('buy', 'resume', 'recover') then
      verdict := verdict || jsonb_build_object(
        'call_id', latest.id, 'bucket', latest.bucket, 'object_key', latest.object_key);
    end if;
    insert into public.steps as s
      (run_id, product_id, name, input_hash, reused)
    values
      (run, held.product_id, wanted.name, wanted.input_hash, verdict ->> 'verdict' = 'reuse')
    on conflict (run_id, name) do update
      set input_hash = excluded.input_hash, reused = excluded.reused, state = 'started', finished_at = null,
          error_code = null, error_message = null
      where s.state <> 'done';
    verdicts := verdicts || jsonb_build_array(verdict);
  end loop;
  return verdicts;
end $$;

-- The last gate before a request leaves: only the holder of the lease passes. It may knock again when the answer got lost,
-- as long as it has not sent the request; nobody else ever passes for the same call.
-- The first request of a call of a run that somebody wants stopped does not pass (VT007).
create or replace function public.send_call_v1(run uuid, lease uuid, call uuid) returns void
language plpgsql security invoker set search_path = '' as $$
declare
  held public.runs := public.held_run_v1(run, lease);
begin
  update public.calls c set state = 'sent', sent_at = coalesce(c.sent_at, now()), sent_by = lease
  where c.id = call and c.run_id = run
    and ((c.state = 'intended' and held.cancel_requested_at is null)
      or (c.state = 'sent' and c.sent_by = lease and c.task_id is null));
  if not found then
    if held.cancel_requested_at is not null then
      raise exception 'This run is being cancelled.' using errcode = 'VT007';
    end if;
    raise exception 'This call was sent already.' using errcode = 'VT001';
  end if;
end $$;

-- A fact about money: accepted from anyone, lease or no lease.
create or replace function public.accept_task_v1(call uuid, task text) returns void
language sql security invoker set search_path = '' as $$
  update public.calls c set task_id = task where c.id = call and c.task_id is null;
$$;

-- Settle a call. A fact about money: accepted from anyone, at any time; repeating it changes nothing, and a verdict that
-- comes after all replaces `unknown`. `outcome` = {"state": done|failed|unknown, "cost_micros" (null: not reported),
-- "request_id", "latency_s", "error_code", "error_message", "repeatable",
-- "media_type", "sha256", "width", "height"}.
-- Without a reported cost a done or unknown call counts as its estimate, a failed one as nothing.
-- It is settled in every budget that it was reserved against, in the order of reserving.
create or replace function public.finish_call_v1(call uuid, outcome jsonb) returns void
language plpgsql security invoker set search_path = '' as $$
declare
  earlier public.calls;
  cost bigint;
  budget record;
begin
  select * into earlier from public.calls c where c.id = call for update;
  if not found then
    raise exception 'There is no call %.', call using errcode = 'VT004';
  end if;
  if earlier.state in ('done', 'failed') or earlier.state = outcome ->> 'state' then
    return;
  end if;
  cost := coalesce((outcome ->> 'cost_micros')::bigint,
    case when outcome ->> 'state' = 'failed' then 0 else earlier.reserved_micros end);
  update public.calls c set
    state = outcome ->> 'state', settled_micros = cost,
    cost_source = case when outcome ->> 'cost_micros' is null then 'estimated' else 'reported' end,
    request_id = outcome ->> 'request_id', latency_s = (outcome ->> 'latency_s')::double precision,
    error_code = outcome ->> 'error_code', error_message = left(outcome ->> 'error_message', 500),
    repeatable = coalesce((outcome ->> 'repeatable')::boolean, false),
    media_type = outcome ->> 'media_type', content_sha256 = outcome ->> 'sha256',
    width = (outcome ->> 'width')::integer, height = (outcome ->> 'height')::integer, finished_at = now()
  where c.id = call;
  for budget in
    select * from (values
      ('day', '', (earlier.created_at at time zone 'utc')::date),
      ('owner', earlier.budget_owner, (earlier.created_at at time zone 'utc')::date),
      ('run', earlier.budget_run::text, null) -- a run has one budget, however many days it takes
    ) as scopes (scope, scope_key, period) order by scope
  loop
    update public.budgets b set
      reserved_micros = b.reserved_micros - case when earlier.state = 'unknown' then 0 else earlier.reserved_micros end,
      spent_micros = b.spent_micros + cost - coalesce(earlier.settled_micros, 0)
    where b.scope = budget.scope and b.scope_key = budget.scope_key
      and (b.period = budget.period or budget.period is null);
  end loop;
  update public.product_private v set cost_micros = v.cost_micros + cost - coalesce(earlier.settled_micros, 0)
  where v.product_id = earlier.product_id;
end $$;

-- Finish a step and show it to the watchers, in one call. `outcome` = {"state": done|failed, "object": {"bucket", "key",
-- "media_type", "sha256", "width", "height"}, "error_code", "error_message"}; `shown` is merged into the product's progress
-- under the step's name.
create or replace function public.finish_step_v1(run uuid, lease uuid, step text, outcome jsonb, shown jsonb) returns void
language plpgsql security invoker set search_path = '' as $$
declare
  held public.runs := public.held_run_v1(run, lease);
  object jsonb := outcome -> 'object';
  news boolean;
begin
  update public.steps s set
    state = outcome ->> 'state', bucket = object ->> 'bucket', object_key = object ->> 'key',
    media_type = object ->> 'media_type', content_sha256 = object ->> 'sha256',
    width = (object ->> 'width')::integer, height = (object ->> 'height')::integer,
    error_code = outcome ->> 'error_code', error_message = left(outcome ->> 'error_message', 500), finished_at = now()
  where s.run_id = run and s.name = step and s.state not in ('done', outcome ->> 'state');
  news := found;
  update public.products p set
    progress = jsonb_set(merged.progress, '{done}', (
      select to_jsonb(count(*)) from jsonb_each(merged.progress -> 'steps') as each_step
      where each_step.value ->> 'state' in ('done', 'failed'))),
    updated_at = now()
  from (
    select now_shown.id, jsonb_set(now_shown.progress, array['steps', step],
      coalesce(now_shown.progress -> 'steps' -> step, '{}') || shown) as progress
    from public.products now_shown where now_shown.id = held.product_id
  ) merged
  where p.id = merged.id and p.progress ? 'steps';
  if news then
    perform public.append_event_v1(held.product_id, run, 'step.' || (outcome ->> 'state'),
      jsonb_build_object('step', step) || shown);
  end if;
end $$;
