-- Metrics of some dictionaries on their own activation sets. Without $every_row only values on eval documents, and no values
-- of single letters: a row without a variant has their mean.
with attempts as (
    select fingerprint, max(finished_at) as measured_at
    from stage_runs
    where state = 'committed'
    group by fingerprint
)
select m.*, a.measured_at
from dictionary_metrics as m
join dictionaries as d using (dictionary_id, activation_set_id)
left join attempts as a on a.fingerprint = m.fingerprint
where
    list_contains($dictionary_ids, m.dictionary_id)
    and ($every_row or (m.split = 'eval' and not regexp_full_match(m.variant, '[a-z]')))
order by m.dictionary_id, m.metric, m.variant, m.split
