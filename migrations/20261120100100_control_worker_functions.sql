-- Purpose: the worker's functions know of wishes to cancel (VT007), of caps for owners and runs, and of runs that make
-- only some of the scenes. Names and arguments stay, so that workers of both versions run side by side.
-- Locks: functions only.

-- Reserve money before a call, always in this order: day, owner, run. `limits` = {"day", "owner", "run"} in micro-dollars;
-- no entry, no cap. Raises VT002, with the figures in `detail`, when a cap would be passed.
create or replace function public.reserve_v2(held public.runs, owner text, amount bigint, limits jsonb) returns void
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

-- As before (see the earlier file), but: no step of a run that somebody wants stopped is begun (VT007), and money is
-- reserved against all three budgets.
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
        perform public.reserve_v2(held, owner, wanted.price_micros, limits);
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

-- As before, but the first request of a call of a run that somebody wants stopped does not pass (VT007).
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

-- As before, but a call is settled in every budget that it was reserved against, in the order of reserving.
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

-- The scenes that a product shows after a run: those of `made` (all scenes of the pack, in order), or, when the run was
-- to make only a `choice` of them, these in place of the ones shown before. A scene that failed replaces nothing.
create or replace function public.merged_variants_v1(shown jsonb, made jsonb, choice jsonb) returns jsonb
language sql immutable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(
    case
      when choice is null or old.variant is null then scene.variant
      when choice -> 'keys' ? (scene.variant ->> 'key') and scene.variant ->> 'status' = 'completed' then scene.variant
      else old.variant
    end order by scene.place), '[]')
  from jsonb_array_elements(made) with ordinality as scene (variant, place)
  left join lateral (
    select each_one.variant from jsonb_array_elements(shown) as each_one (variant)
    where each_one.variant ->> 'key' = scene.variant ->> 'key' limit 1
  ) old on true;
$$;

-- As before, but a run that somebody wants stopped ends as cancelled, whatever it came to: its checkpoints stay, the
-- result columns keep their values. `shown_message` is what the product tells its watchers, when that is not `message`.
create or replace function public.close_run_v2(
  run uuid, outcome text, result jsonb, code text, message text, detail jsonb, shown_message text)
returns text
language plpgsql security invoker set search_path = '' as $$
declare
  ended public.runs;
  scenes jsonb;
  pictures jsonb;
  missing text;
begin
  -- What was recorded but never sent will not be sent now: its money is free again. Whoever settles one now is not waited for.
  perform public.finish_call_v1(unsent.id, '{"state": "failed", "repeatable": true, "error_code": "not_sent"}')
  from (select c.id from public.calls c where c.run_id = run and c.state = 'intended' for update skip locked) unsent;
  if exists (select from public.runs r where r.id = run and r.cancel_requested_at is not null) then
    outcome := 'cancelled';
  end if;
  if outcome = 'cancelled' then
    code := null;
    message := null;
    shown_message := null;
  end if;
  update public.runs r set
    status = outcome, error_code = code, error_message = left(message, 500),
    manifest = case when outcome = 'completed' then result -> 'manifest' end,
    completed_at = now(), processing_time = extract(epoch from now() - r.started_at)
  where r.id = run
  returning * into ended;
  shown_message := coalesce(shown_message, message);
  if outcome = 'completed' then
    pictures := result -> 'urls';
    select public.merged_variants_v1(p.variants, result -> 'variants', ended.params -> 'only') into scenes
    from public.products p where p.id = ended.product_id;
    if ended.params ? 'only' then
      select coalesce(jsonb_agg(v -> 'url') filter (where v ->> 'status' = 'completed'), '[]'),
        string_agg(v ->> 'label', ', ') filter (where v ->> 'status' <> 'completed')
      into pictures, missing from jsonb_array_elements(scenes) v;
      shown_message := 'Could not be made: ' || missing || '. Process it again to make only these.';
    end if;
    update public.products p set
      status = outcome, error_message = left(shown_message, 500), variants = scenes, generated_image_urls = pictures,
      image_url = coalesce(pictures ->> 0, p.image_url), updated_at = now()
    where p.id = ended.product_id;
  else
    -- The result columns keep their values: what was shown before stays.
    update public.products p set status = outcome, error_message = left(shown_message, 500), updated_at = now()
    where p.id = ended.product_id;
  end if;
  update public.product_private v set error_detail = detail where v.product_id = ended.product_id;
  perform public.append_event_v1(ended.product_id, run, 'run.' || outcome, jsonb_strip_nulls(jsonb_build_object(
    'run_no', ended.run_no, 'error_code', code, 'error_message', left(shown_message, 500), 'urls', pictures)));
  return outcome;
end $$;

-- For `claim_runs_v1`, and workers of the version before.
create or replace function public.close_run_v1(
  run uuid, outcome text, result jsonb, code text, message text, detail jsonb)
returns void
language sql security invoker set search_path = '' as $$
  select public.close_run_v2(run, outcome, result, code, message, detail, null);
$$;

-- As `complete_run_v1`, but it tells how the run really ended: `cancelled` when somebody wanted it stopped meanwhile.
create or replace function public.complete_run_v2(
  run uuid, lease uuid, outcome text, result jsonb default null, code text default null, message text default null,
  detail jsonb default null, shown_message text default null)
returns text
language plpgsql security invoker set search_path = '' as $$
declare
  ended text;
begin
  select r.status into ended from public.runs r
  where r.id = run and r.lease_token = lease and r.completed_at is not null and r.status in (outcome, 'cancelled');
  if found then
    return ended;
  end if;
  perform public.held_run_v1(run, lease);
  return public.close_run_v2(run, outcome, result, code, message, detail, shown_message);
end $$;

create or replace function public.complete_run_v1(
  run uuid, lease uuid, outcome text, result jsonb default null, code text default null, message text default null,
  detail jsonb default null)
returns void
language sql security invoker set search_path = '' as $$
  select public.complete_run_v2(run, lease, outcome, result, code, message, detail);
$$;

-- As before, but a run that somebody wants stopped is not put back into the queue: it ends.
create or replace function public.hand_back_v1(run uuid, lease uuid, delay_s double precision default 0, reason text default null)
returns void
language plpgsql security invoker set search_path = '' as $$
declare
  held public.runs := public.held_run_v1(run, lease);
begin
  if held.cancel_requested_at is not null then
    perform public.close_run_v2(run, 'cancelled', null, null, null, null, null);
    return;
  end if;
  update public.runs r set
    status = 'pending', attempts = r.attempts - 1, deferrals = r.deferrals + case when delay_s > 0 then 1 else 0 end,
    run_at = now() + make_interval(secs => delay_s), error_message = left(reason, 500),
    locked_by = null, lease_token = null, lease_expires_at = null
  where r.id = run;
  perform public.append_event_v1(held.product_id, run, 'run.deferred', jsonb_strip_nulls(jsonb_build_object(
    'run_no', held.run_no, 'delay_s', delay_s, 'reason', left(reason, 500))));
  if delay_s <= 0 then
    perform public.ring_workers_v1();
  end if;
end $$;
