-- Purpose: what a user does to stop a product: cancel its run, or delete it with its objects.
-- Locks: functions only. Both lock runs before products, as workers do.

-- Stop the run of a product. One that waits is cancelled at once; one at work begins nothing new, keeps what is paid for,
-- and then ends. Repeating it changes nothing. Returns {"run_id", "status": "cancelled" | "cancelling"}.
-- Raises VT004 when there is no such product, VT003 when there is nothing left to stop.
create or replace function public.cancel_run_v1(product uuid) returns jsonb
language plpgsql security invoker set search_path = '' as $$
declare
  active public.runs;
  latest public.runs;
begin
  loop
    select * into active from public.runs r
    where r.product_id = product and r.status in ('pending', 'processing') for update;
    exit when found;
    select r.* into latest from public.products p left join public.runs r on r.product_id = p.id and r.run_no = p.run_no
    where p.id = product;
    if not found then
      raise exception 'There is no product %.', product using errcode = 'VT004';
    end if;
    if latest.status = 'cancelled' then
      return jsonb_build_object('run_id', latest.id, 'status', 'cancelled');
    end if;
    if latest.status is null or latest.status in ('completed', 'failed') then
      raise exception 'There is nothing to cancel: this product is not being processed.' using errcode = 'VT003';
    end if; -- else a run was started just now
  end loop;
  if active.status = 'pending' then
    perform public.close_run_v1(active.id, 'cancelled', null, null, null, null, null);
    return jsonb_build_object('run_id', active.id, 'status', 'cancelled');
  end if;
  if active.cancel_requested_at is null then
    update public.runs r set cancel_requested_at = now() where r.id = active.id;
    perform public.append_event_v1(product, active.id, 'run.cancelling', jsonb_build_object('run_no', active.run_no));
  end if;
  return jsonb_build_object('run_id', active.id, 'status', 'cancelling');
end $$;

-- Delete a product, whatever becomes of it just now. A worker that holds it has lost its lease; the ledger keeps its rows.
-- Returns the objects to remove, [{"bucket", "key"}], which are recorded until `objects_removed_v1` confirms that they are
-- gone. Raises VT004 when there is no such product.
create or replace function public.delete_product_v1(product uuid) returns jsonb
language plpgsql security invoker set search_path = '' as $$
declare
  objects jsonb;
begin
  -- The order in which workers and settlements lock: run, product, calls, then what is private.
  perform from public.runs r where r.product_id = product order by r.id for update;
  perform from public.products p where p.id = product for update;
  if not found then
    raise exception 'There is no product %.', product using errcode = 'VT004';
  end if;
  perform from public.calls c where c.product_id = product order by c.id for update;
  -- What was recorded but never sent will not be sent now.
  perform public.finish_call_v1(c.id, '{"state": "failed", "repeatable": true, "error_code": "not_sent"}')
  from public.calls c where c.product_id = product and c.state = 'intended';
  with gone as (
    insert into public.objects_to_remove (bucket, object_key, call_id)
    select v.raw_bucket, v.raw_key, null::uuid from public.product_private v where v.product_id = product
    union
    select earlier ->> 'bucket', earlier ->> 'key', null
    from public.product_private v, jsonb_array_elements(v.earlier_raws) earlier where v.product_id = product
    union
    select c.bucket, c.object_key, c.id from public.calls c where c.product_id = product and c.state <> 'failed'
    on conflict do nothing
    returning bucket, object_key
  )
  select coalesce(jsonb_agg(jsonb_build_object('bucket', gone.bucket, 'key', gone.object_key)), '[]') into objects from gone;
  delete from public.products p where p.id = product;
  return objects;
end $$;

-- Forget objects that were removed. One whose call is not settled stays: it may still land.
create or replace function public.objects_removed_v1(objects jsonb) returns void
language sql security invoker set search_path = '' as $$
  delete from public.objects_to_remove o
  using jsonb_to_recordset(objects) as gone (bucket text, key text)
  where o.bucket = gone.bucket and o.object_key = gone.key
    and not exists (select from public.calls c where c.id = o.call_id and c.state in ('intended', 'sent'));
$$;
