-- Metrics of some dictionaries on their own activation sets. Values of single letters are left out: a row without a
-- variant has their mean.
select m.*
from dictionary_metrics as m
join dictionaries as d using (dictionary_id, activation_set_id)
where list_contains($dictionary_ids, m.dictionary_id) and m.split = 'eval' and not regexp_full_match(m.variant, '[a-z]')
order by m.dictionary_id, m.metric, m.variant
limit 1000
