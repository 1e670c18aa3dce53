-- The main metrics of each alias over its retrainings, on the sets on which they were trained. On a model with random
-- weights CE recovered is no measure: its predictions lose next to nothing.
with random_sets as (
    select a.activation_set_id
    from activation_sets as a
    join models as m using (model_id)
    where m.source = 'reinitialised'
)
select d.alias, d.dictionary_id, d.created_at, m.metric, m.variant, m.value
from dictionaries as d
join dictionary_metrics as m using (dictionary_id, activation_set_id)
where m.split = 'eval' and m.value is not null and m.metric in ('fvu', 'l0', 'ce_recovered')
    and m.variant in ('', 'mean_ablation', 'mean')
    and (m.metric <> 'ce_recovered' or m.activation_set_id not in (select activation_set_id from random_sets))
order by d.alias, m.metric, d.created_at
limit 1000
