-- Metrics of some dictionaries on their own activation sets. Without $every_row only values on eval documents, and no values
-- of single letters: a row without a variant has their mean. frozen_decoder is the same metric of a dictionary with a random
-- frozen decoder on the same set (of several the one nearest in width), random_model that of the dictionary itself on a
-- model with random weights, and is_random_model whether the set itself is of such a model.
with attempts as (
    select fingerprint, max(finished_at) as measured_at
    from stage_runs
    where state = 'committed'
    group by fingerprint
),
chosen as (
    select m.*, d.d_sae
    from dictionary_metrics as m
    join dictionaries as d using (dictionary_id, activation_set_id)
    where
        list_contains($dictionary_ids, m.dictionary_id)
        and ($every_row or (m.split = 'eval' and not regexp_full_match(m.variant, '[a-z]')))
),
frozen as (
    select c.dictionary_id, c.metric, c.variant, c.split,
        arg_min(f.value, {'width': abs(ln(c.d_sae / d.d_sae)), 'id': d.dictionary_id}) as value
    from chosen as c
    join dictionary_metrics as f using (activation_set_id, metric, variant, split)
    join dictionaries as d on d.dictionary_id = f.dictionary_id
    where d.architecture = 'frozen_decoder' and d.dictionary_id <> c.dictionary_id and f.metric_version = c.metric_version
    group by c.dictionary_id, c.metric, c.variant, c.split
),
random_sets as (
    select a.activation_set_id
    from activation_sets as a
    join models as m using (model_id)
    where m.source = 'reinitialised'
),
random_models as (
    select c.dictionary_id, c.metric, c.variant, c.split, arg_min(r.value, r.activation_set_id) as value
    from chosen as c
    join dictionary_metrics as r using (dictionary_id, metric, variant, split)
    join random_sets as s on s.activation_set_id = r.activation_set_id
    where r.activation_set_id <> c.activation_set_id and r.metric_version = c.metric_version
    group by c.dictionary_id, c.metric, c.variant, c.split
)
select m.* exclude (d_sae), a.measured_at, f.value as frozen_decoder, r.value as random_model,
    m.activation_set_id in (select activation_set_id from random_sets) as is_random_model
from chosen as m
left join attempts as a on a.fingerprint = m.fingerprint
left join frozen as f using (dictionary_id, metric, variant, split)
left join random_models as r using (dictionary_id, metric, variant, split)
order by m.dictionary_id, m.metric, m.variant, m.split
