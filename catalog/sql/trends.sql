-- The main metrics of each alias over its retrainings, on the sets on which they were trained.
select d.alias, d.dictionary_id, d.created_at, m.metric, m.variant, m.value
from dictionaries as d
join dictionary_metrics as m using (dictionary_id, activation_set_id)
where m.split = 'eval' and m.value is not null and m.metric in ('fvu', 'l0', 'ce_recovered')
    and m.variant in ('', 'mean_ablation', 'mean')
order by d.alias, m.metric, d.created_at
limit 1000
