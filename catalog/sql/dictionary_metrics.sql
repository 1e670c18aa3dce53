-- Metric values of a dictionary, on all activation sets or a given one, with the time of their commit.
with attempts as (
    select fingerprint, max(finished_at) as measured_at
    from stage_runs
    where state = 'committed'
    group by fingerprint
)

select
    m.activation_set_id,
    m.metric,
    m.variant,
    m.split,
    m.value,
    m.n,
    m.metric_version,
    m.control,
    m.note,
    a.measured_at
from dictionary_metrics as m
left join attempts as a using (fingerprint)
where
    m.dictionary_id = $dictionary_id
    and ($activation_set_id::varchar is null or m.activation_set_id = $activation_set_id::varchar)
order by m.activation_set_id, m.metric, m.variant, m.split
