-- When each table was last written, by which stage, and how many rows and bytes it has.
select
    s.table_name,
    arg_max(s.committed_at, o.place) as last_committed_at,
    arg_max(t.stage, o.place) as stage,
    arg_max(t.run_id, o.place) as run_id,
    count(*) as n_slices,
    sum(s.rows)::bigint as rows_written,
    sum(s.bytes)::bigint as bytes_written
from slices as s
join (select table_name, slice, place from commit_order) as o using (table_name, slice)
left join (
    select fingerprint, arg_max(stage, attempt) as stage, arg_max(run_id, attempt) as run_id
    from stage_runs
    where state = 'committed'
    group by fingerprint
) as t using (fingerprint)
group by s.table_name
