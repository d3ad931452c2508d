-- Purpose: a run may make only some of the scenes: one again on request, or just those that are missing. What the other
-- scenes show is then not touched, so that a scene that was made again never gives way to its older twin.
-- Locks: functions only.

-- What the next run on a product would be: {"run_no", "generation", "base_generation", "only"}. `only`, when it is there,
-- names the scenes to make: {"keys": [...], "prompt", "remake"}; `remake` is the number of the run that was first to make
-- them again, so that all attempts at it, and its continuation, are one purchase.
--   run -> 'only' is given       these scenes again, nothing else
--   a new upload, or `fresh`     all scenes (`fresh`: the cut-out as well)
--   the latest run was to make only some scenes and did not   it is continued
--   the result shown is partial  what is missing
--   the result shown is whole    a new generation of all scenes
--   else                         all scenes of this generation: what is finished is reused
-- Raises VT003 when a run is active, VT004 when there is no such product, VT006 when its upload is not known.
create or replace function public.plan_run_v1(product uuid, run jsonb, new_upload boolean, fresh boolean) returns jsonb
language plpgsql stable security invoker set search_path = '' as $$
declare
  shown public.products;
  private public.product_private;
  latest public.runs;
  missing jsonb;
  alike boolean;
  renews boolean;
  only_these jsonb;
begin
  select * into shown from public.products p where p.id = product;
  if not found then
    raise exception 'There is no product %.', product using errcode = 'VT004';
  end if;
  select * into latest from public.runs r where r.product_id = product and r.status in ('pending', 'processing');
  if found then
    raise exception 'This product is being processed already.'
      using errcode = 'VT003', detail = jsonb_build_object('run_id', latest.id)::text;
  end if;
  select * into private from public.product_private v where v.product_id = product;
  if not found and not new_upload then
    raise exception 'The upload of this product is not known here: send the file again.' using errcode = 'VT006';
  end if;
  select * into latest from public.runs r where r.product_id = product and r.run_no = shown.run_no;
  alike := latest.recipe = run ->> 'recipe' and latest.params - 'only' = coalesce(run -> 'params', '{}')
    and latest.pack is not distinct from run ->> 'pack'
    and latest.pack_version is not distinct from (run ->> 'pack_version')::integer;
  select jsonb_agg(v -> 'key') into missing from jsonb_array_elements(shown.variants) v where v ->> 'status' <> 'completed';
  renews := fresh or (shown.status = 'completed' and missing is null and not run ? 'only');
  if run ? 'only' then
    only_these := run -> 'only' || jsonb_build_object('remake', shown.run_no + 1);
  elsif alike and not new_upload and not fresh then
    if latest.status in ('failed', 'cancelled') then
      only_these := latest.params -> 'only';
    elsif shown.status = 'completed' and missing is not null then
      only_these := jsonb_build_object('keys', missing);
    end if;
  end if;
  return jsonb_strip_nulls(jsonb_build_object(
    'run_no', shown.run_no + 1, 'only', only_these,
    'generation', shown.generation + renews::integer,
    'base_generation', coalesce(private.base_generation, 0) + fresh::integer));
end $$;

-- Another run on a product, as `plan_run_v1` has it. `raw` replaces the upload; the earlier one stays until the product
-- goes. `clear` empties the shown result at once for clients that only look at the array.
create or replace function public.start_run_v1(
  product uuid, raw jsonb, run jsonb, fresh boolean default false, clear boolean default false, request jsonb default null)
returns jsonb
language plpgsql security invoker set search_path = '' as $$
declare
  answer jsonb := public.recall_answer_v1(request);
  plan jsonb;
  current_product public.products;
  new_run uuid;
begin
  if answer is not null then
    return answer || '{"replayed": true}';
  end if;
  perform from public.products p where p.id = product for update;
  plan := public.plan_run_v1(product, run, raw is not null, fresh);
  if raw is not null then
    insert into public.product_private as v
      (product_id, raw_bucket, raw_key, raw_media_type, raw_sha256, raw_bytes, raw_width, raw_height)
    values
      (product, raw ->> 'bucket', raw ->> 'key', raw ->> 'media_type', raw ->> 'sha256', (raw ->> 'bytes')::bigint,
       (raw ->> 'width')::integer, (raw ->> 'height')::integer)
    on conflict (product_id) do update set
      raw_bucket = excluded.raw_bucket, raw_key = excluded.raw_key, raw_media_type = excluded.raw_media_type,
      raw_sha256 = excluded.raw_sha256, raw_bytes = excluded.raw_bytes,
      raw_width = excluded.raw_width, raw_height = excluded.raw_height,
      earlier_raws = v.earlier_raws || jsonb_build_object('bucket', v.raw_bucket, 'key', v.raw_key);
  end if;
  update public.product_private v
  set base_generation = (plan ->> 'base_generation')::integer, error_detail = null
  where v.product_id = product;
  update public.products p set
    status = 'pending', progress = '{}', error_message = null, run_no = (plan ->> 'run_no')::integer,
    generation = (plan ->> 'generation')::integer,
    title = coalesce(run ->> 'title', p.title), jewellery_type = coalesce(run ->> 'jewellery_type', p.jewellery_type),
    raw_image_url = coalesce(raw ->> 'url', p.raw_image_url),
    -- Until there are scenes, the upload is what is shown: a new one replaces the old one.
    image_url = case when clear or jsonb_array_length(p.generated_image_urls) = 0
      then coalesce(raw ->> 'url', p.raw_image_url, p.image_url) else p.image_url end,
    generated_image_urls = case when clear then '[]' else p.generated_image_urls end,
    updated_at = now()
  where p.id = product
  returning * into current_product;
  insert into public.runs
    (product_id, run_no, recipe, params, pack, pack_version, generation, base_generation, max_attempts, priority)
  values
    (product, current_product.run_no, run ->> 'recipe',
     coalesce(run -> 'params', '{}') || jsonb_strip_nulls(jsonb_build_object('only', plan -> 'only')),
     run ->> 'pack', (run ->> 'pack_version')::integer, current_product.generation,
     (plan ->> 'base_generation')::integer, (run ->> 'max_attempts')::integer, coalesce((run ->> 'priority')::integer, 0))
  returning id into new_run;
  perform public.append_event_v1(product, new_run, 'run.queued', jsonb_build_object('run_no', current_product.run_no));
  answer := jsonb_build_object('product_id', product, 'run_id', new_run, 'run_no', current_product.run_no,
    'raw_image_url', current_product.raw_image_url);
  perform public.keep_answer_v1(request, answer);
  perform public.ring_workers_v1();
  return answer || '{"replayed": false}';
end $$;

create or replace function public.schema_version_v1() returns text
language sql stable security invoker set search_path = '' as $$ select '20261120100400' $$;

do $$
declare
  routine regprocedure;
begin
  for routine in
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in ('plan_run_v1')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', routine);
    execute format('grant execute on function %s to service_role', routine);
  end loop;
end $$;
